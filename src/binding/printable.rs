//! How names and other texts that users gave go into ours: on one line, of printable characters,
//! and not endless.

use pyo3::prelude::*;
use pyo3::types::PyString;
use std::borrow::Cow;

/// Characters of a name that are shown: more than the longest name of a function that people write.
pub(super) const MAX_NAME_CHARS: usize = 200;
const ELLIPSIS: &str = "...";

/// A text as it may be shown: what is not printable is escaped, and what is longer than `bound` is
/// cut.
pub(super) fn printable(text: &str, bound: usize) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if text.len() <= bound && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == bound {
            shown.push_str(ELLIPSIS);
            break;
        }
        if is_printable(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    Cow::Owned(shown)
}

/// A name as it may be shown, between quotes that it cannot close itself.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\\\""))
}

/// Whether it is shown as a character of its own, or joins the character before it.
fn is_printable(character: char) -> bool {
    // The standard library's table. It escapes a mark that joins another character where it stands
    // first, and quotes and backslashes always.
    match character {
        '\'' | '"' | '\\' => true,
        _ => {
            let mut pair = String::from("x");
            pair.push(character);
            pair.escape_debug().nth(2).is_none()
        }
    }
}

/// A Python string as it may be shown. Halves of characters, which no text of ours can hold, become
/// U+FFFD.
pub(super) fn name(text: &Bound<'_, PyString>) -> String {
    printable(&text.to_string_lossy(), MAX_NAME_CHARS).into_owned()
}

/// A text as it may be shown, for the package's own messages.
#[pyfunction]
pub(super) fn _printable(text: &Bound<'_, PyString>, bound: usize) -> String {
    printable(&text.to_string_lossy(), bound).into_owned()
}
