//! Keys of one direction, and the secret from which the next ones come.

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs::{aead, hkdf};
#[cfg(not(feature = "aws-lc-rs"))]
use ring::{aead, hkdf};
use rustls::{CipherSuite, ConnectionTrafficSecrets};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{HEADER, TAG, fault::TlsError};

/// The longest secret, of SHA-384.
const SECRET_MAX: usize = 48;
const KEY_MAX: usize = 32;
const IV: usize = 12;

/// The cipher suites of TLS 1.3 that rustls has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

impl Suite {
    /// `None` for one that is not known here.
    pub(crate) fn from_cipher_suite(suite: CipherSuite) -> Option<Self> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Self::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Self::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Self::Chacha20Poly1305),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128Gcm | Self::Chacha20Poly1305 => hkdf::HKDF_SHA256,
            Self::Aes256Gcm => hkdf::HKDF_SHA384,
        }
    }

    /// Bytes of a secret, which are those of its hash.
    const fn secret_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Chacha20Poly1305 => 32,
            Self::Aes256Gcm => SECRET_MAX,
        }
    }

    /// Records that may be encrypted with one key (RFC 8446 section 5.5: 2^24.5 with AES-GCM;
    /// rustls has 2^24). A sequence number must not come round (section 5.3), whatever the suite.
    pub(crate) const fn records_max(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 24,
            Self::Chacha20Poly1305 => u64::MAX,
        }
    }
}

/// A traffic secret of one direction; wiped when dropped. In a box, since a move leaves a copy that
/// is not wiped.
pub(crate) struct Secret {
    bytes: Box<Zeroizing<[u8; SECRET_MAX]>>,
    len: usize,
}

impl Secret {
    /// `None` where it is longer than any is.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        let mut bytes = Box::new(Zeroizing::new([0; SECRET_MAX]));
        bytes.get_mut(..secret.len())?.copy_from_slice(secret);
        Some(Self { bytes, len: secret.len() })
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// HKDF-Expand-Label without a context (RFC 8446 section 7.1), as many bytes as `out` has.
    fn expand(&self, suite: Suite, label: &[u8], out: &mut [u8]) -> Result<(), TlsError> {
        let prefix = b"tls13 ";
        let length = u16::try_from(out.len()).map_err(|_| TlsError::Internal)?.to_be_bytes();
        let label_len = u8::try_from(prefix.len() + label.len()).map_err(|_| TlsError::Internal)?;
        let info: [&[u8]; 5] = [&length, &[label_len], prefix, label, &[0]];
        hkdf::Prk::new_less_safe(suite.hkdf(), self.bytes())
            .expand(&info, Length(out.len()))
            .and_then(|expanded| expanded.fill(out))
            .map_err(|_| TlsError::Internal)
    }

    #[cfg(test)]
    pub(crate) fn expand_for_test(&self, suite: Suite, label: &[u8], out: &mut [u8]) {
        assert!(self.expand(suite, label, out).is_ok());
    }

    /// The one after it (section 7.2).
    fn next(&self, suite: Suite) -> Result<Self, TlsError> {
        let mut bytes = Box::new(Zeroizing::new([0; SECRET_MAX]));
        let out = bytes.get_mut(..self.len).ok_or(TlsError::Internal)?;
        self.expand(suite, b"traffic upd", out)?;
        Ok(Self { bytes, len: self.len })
    }

    /// The key that is made of it (section 7.3).
    fn key(&self, suite: Suite) -> Result<Key, TlsError> {
        let mut bytes = Zeroizing::new([0; KEY_MAX]);
        let (key, iv) = self.key_bytes(suite, &mut bytes)?;
        Key::new(suite, key, iv, 0)
    }

    /// The bytes of that key, which are put into `bytes`, and its IV.
    fn key_bytes<'a>(
        &self,
        suite: Suite,
        bytes: &'a mut [u8; KEY_MAX],
    ) -> Result<(&'a [u8], [u8; IV]), TlsError> {
        let key = bytes.get_mut(..suite.algorithm().key_len()).ok_or(TlsError::Internal)?;
        self.expand(suite, b"key", key)?;
        let mut iv = [0; IV];
        self.expand(suite, b"iv", &mut iv)?;
        Ok((key, iv))
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// A key and the number of the next record under it.
struct Key {
    aead: aead::LessSafeKey,
    iv: [u8; IV],
    sequence: u64,
}

impl Key {
    fn new(suite: Suite, key: &[u8], iv: [u8; IV], sequence: u64) -> Result<Self, TlsError> {
        let key = aead::UnboundKey::new(suite.algorithm(), key).map_err(|_| TlsError::Internal)?;
        Ok(Self { aead: aead::LessSafeKey::new(key), iv, sequence })
    }

    /// The nonce of the next record, which is given to none after it (section 5.3).
    fn nonce(&mut self) -> Result<aead::Nonce, TlsError> {
        let sequence = self.sequence;
        self.sequence = sequence.checked_add(1).ok_or(TlsError::Internal)?;
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce.iter_mut().skip(IV - 8).zip(sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        Ok(aead::Nonce::assume_unique_for_key(nonce))
    }
}

/// What protects the records of one direction.
pub(crate) struct Direction {
    key: Key,
    records_max: u64,
    secret: Secret,
    suite: Suite,
}

impl Direction {
    /// With the keys that rustls has got to: `sequence` is the number of the next record, `secret`
    /// what they were made of.
    ///
    /// # Errors
    /// Where they were made of something else: the next keys would be wrong, long after the
    /// handshake.
    pub(crate) fn new(
        suite: Suite,
        (sequence, keys): &(u64, ConnectionTrafficSecrets),
        secret: Secret,
    ) -> Result<Self, TlsError> {
        let (key, iv) = match (suite, keys) {
            (Suite::Aes128Gcm, ConnectionTrafficSecrets::Aes128Gcm { key, iv })
            | (Suite::Aes256Gcm, ConnectionTrafficSecrets::Aes256Gcm { key, iv })
            | (Suite::Chacha20Poly1305, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) => {
                (key, iv)
            }
            _ => return Err(TlsError::Internal),
        };
        if secret.len != suite.secret_len() {
            return Err(TlsError::Internal);
        }
        let mut bytes = Zeroizing::new([0; KEY_MAX]);
        let (expected_key, expected_iv) = secret.key_bytes(suite, &mut bytes)?;
        let is_of_secret = key.as_ref().ct_eq(expected_key) & iv.as_ref().ct_eq(&expected_iv);
        if !bool::from(is_of_secret) {
            return Err(TlsError::KeysDiffer);
        }
        let iv = iv.as_ref().try_into().map_err(|_| TlsError::Internal)?;
        let key = Key::new(suite, key.as_ref(), iv, *sequence)?;
        Ok(Self { key, records_max: suite.records_max(), secret, suite })
    }

    /// With the first key of `secret`.
    pub(crate) fn of_secret(suite: Suite, secret: Secret) -> Result<Self, TlsError> {
        let key = secret.key(suite)?;
        Ok(Self { key, records_max: suite.records_max(), secret, suite })
    }

    /// Goes on to the next key.
    pub(crate) fn update(&mut self) -> Result<(), TlsError> {
        let secret = self.secret.next(self.suite)?;
        self.key = secret.key(self.suite)?;
        self.secret = secret;
        Ok(())
    }

    /// True where only one more record may be encrypted with this key: that which says so.
    pub(crate) fn is_used_up(&self) -> bool {
        self.key.sequence >= self.records_max - 1
    }

    /// Decrypts `sealed`, which follows `header`, where it lies. How many bytes it was.
    pub(crate) fn open(
        &mut self,
        header: [u8; HEADER],
        sealed: &mut [u8],
    ) -> Result<usize, TlsError> {
        let nonce = self.key.nonce()?;
        let opened = self.key.aead.open_in_place(nonce, aead::Aad::from(header), sealed);
        Ok(opened.map_err(|_| TlsError::BadRecordMac)?.len())
    }

    /// Encrypts `plain`, which follows `header`, where it lies, and gives the tag to follow it.
    pub(crate) fn seal(
        &mut self,
        header: [u8; HEADER],
        plain: &mut [u8],
    ) -> Result<[u8; TAG], TlsError> {
        let nonce = self.key.nonce()?;
        let sealed =
            self.key.aead.seal_in_place_separate_tag(nonce, aead::Aad::from(header), plain);
        let tag = sealed.map_err(|_| TlsError::Internal)?;
        tag.as_ref().try_into().map_err(|_| TlsError::Internal)
    }

    /// As after so many records, of which there may be fewer than usual.
    #[cfg(test)]
    pub(crate) fn set_numbers(&mut self, sequence: u64, records_max: u64) {
        self.key.sequence = sequence;
        self.records_max = records_max;
    }

    /// As where no more records may follow than the one that says so.
    #[cfg(test)]
    pub(crate) fn use_up(&mut self) {
        self.records_max = self.key.sequence + 1;
    }
}
