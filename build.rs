//! Makes two things of Python's side known to the compiler: the interpreter's version and build (`Py_3_13`,
//! `Py_GIL_DISABLED`) to `cfg`, and the docstrings of the stub to the macro `doc!`.

fn main() {
    #[cfg(feature = "python")]
    {
        pyo3_build_config::use_pyo3_cfgs();
        stub::write_macro();
    }
}

/// From the stub to the native classes: the texts that `help`, IDEs and `cargo doc` show are the same.
#[cfg(feature = "python")]
mod stub {
    use std::fmt::Write as _;
    use std::path::Path;
    use std::{env, fs};

    const STUB: &str = "python/tasker/_tasker.pyi";
    const QUOTES: &str = "\"\"\"";

    /// Writes `doc!`, whose arms give the docstring of `_tasker`, `Class`, `Class.method` or `function`.
    pub(super) fn write_macro() {
        println!("cargo::rerun-if-changed={STUB}");
        let stub = fs::read_to_string(STUB).expect("the stub is in the package");
        let mut source = "macro_rules! doc {\n".to_owned();
        for (path, text) in docstrings(&stub) {
            writeln!(source, "({path}) => {{ {text:?} }};").expect("a String takes all");
        }
        source.push_str("}\n");
        let folder = env::var_os("OUT_DIR").expect("cargo sets it");
        fs::write(Path::new(&folder).join("doc.rs"), source).expect("cargo's folder takes files");
    }

    /// The docstrings by the path of what they are about. The stub is formatted by ruff, so a line and its indent tell.
    fn docstrings(stub: &str) -> Vec<(String, String)> {
        // What comes first is about the module.
        let (mut class, mut path) = (String::new(), "_tasker".to_owned());
        let mut found = Vec::new();
        let mut lines = stub.lines();
        while let Some(line) = lines.next() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            if let Some(name) = name_after("class ", code) {
                path.clone_from(&name);
                class = name;
            } else if let Some(name) = name_after("def ", code) {
                path = if indent == 0 { name } else { format!("{class}.{name}") };
            } else if let Some(first) = code.strip_prefix(QUOTES) {
                found.push((path.clone(), docstring(first, indent, &mut lines)));
            }
        }
        found
    }

    fn name_after(keyword: &str, code: &str) -> Option<String> {
        let name = code.strip_prefix(keyword)?;
        Some(name.split(|c: char| !c.is_alphanumeric() && c != '_').next()?.to_owned())
    }

    /// Reads a docstring up to its closing quotes, and takes its indent away, as `inspect.cleandoc` does.
    fn docstring<'a>(
        first: &'a str,
        indent: usize,
        rest: &mut impl Iterator<Item = &'a str>,
    ) -> String {
        if let Some(whole) = first.strip_suffix(QUOTES) {
            return whole.to_owned();
        }
        let body = rest.take_while(|line| line.trim_start() != QUOTES);
        let lines = std::iter::once(first).chain(body.map(|line| line.get(indent..).unwrap_or("")));
        lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }
}
