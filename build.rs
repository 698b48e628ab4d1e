//! Makes the interpreter's version and build (`Py_3_13`, `Py_GIL_DISABLED`) known to `cfg`.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
}
