"""The demo: a crawl of a server that breaks, with and without this package."""
