"""What those who show runners share: from what runners tell, again and again, to what is shown.

A viewer makes a `Watch` and asks it for views when somebody looks:

    watch = Watch()                  # of all runners, or Watch(one, another)
    for view in watch.views():       # a `View` of each, as of now
        view.rates.completed         # per second, over the last 5 s
        view.series[-1]              # the newest `Point`; about one a second, of the last 5 minutes
        json.dumps(asdict(view))     # plain figures, texts, tuples and dictionaries

Nothing is read between two calls, and no thread is started, so what nobody looks at costs nothing.
Ask once or twice a second: a view then costs its runner about a millisecond, and more often adds no
points. What has no end has a limit here: see `Watch`, `History` and `View`. Texts are printable, on
one line and at most 80 characters long, those of findings 300; a viewer still has to escape what
means something in its own format. There is nothing of arguments, results, messages or resources.

From the bottom up: `view` is what comes out, `reading` what goes in, `ring` what is remembered,
`quantiles` what becomes of histograms, `history` makes views of the readings of one runner, `watch`
does it for several that come and go.
"""
