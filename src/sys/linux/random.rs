use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// A number that nobody can guess.
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // Up to 256 bytes come whole.
    rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let numbers: std::collections::HashSet<_> = (0..64).map(|_| random_u64().expect("random")).collect();
        assert_eq!(numbers.len(), 64);
    }
}
