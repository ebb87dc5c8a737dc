//! JSON pointers (RFC 6901).

/// The name of a member as one step of a JSON pointer.
pub(crate) fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
