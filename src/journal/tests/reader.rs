//! What is read from a damaged segment.
