#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    Bytes,
    Journal,
}
