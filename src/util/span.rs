//! Spans for `tracing`, without which there is nothing of them: not even their
//! fields are evaluated.

/// Enters a span until what is returned goes: `span!("flush", family = name)`.
/// Fields are displayed.
#[cfg(feature = "tracing")]
macro_rules! span {
    ($name:literal $(, $field:ident = $value:expr)* $(,)?) => {
        tracing::info_span!(target: "aidb", $name $(, $field = %$value)*).entered()
    };
}

/// As with the feature `tracing`, but nothing.
#[cfg(not(feature = "tracing"))]
macro_rules! span {
    ($name:literal $(, $field:ident = $value:expr)* $(,)?) => {{
        // Named, so that they are used with and without the feature.
        let _ = || {
            $(let _ = &$value;)*
        };
        $crate::util::span::NoSpan
    }};
}

/// Stands for a span that was not asked for.
#[cfg(not(feature = "tracing"))]
#[derive(Debug)]
pub(crate) struct NoSpan;

pub(crate) use span;
