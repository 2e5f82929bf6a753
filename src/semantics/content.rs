//! A text in the beginning of an answer's content, whatever the content's codings and its
//! charset are.
//!
//! Bodies are stored and sent on as they came. Only where a rule looks for a text, the
//! beginning is decoded, in a copy. The origin is not asked for content without coding
//! instead: each visitor of that page would get it in full length.
//!
//! Not the body is converted but the text, into each charset that pages have. What
//! `Content-Type` and the page say about the charset, which often differs, does not matter
//! then.

use brotli_decompressor::{BrotliDecompressStream, BrotliState, StandardAlloc};
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_PARSE_ZLIB_HEADER,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use std::borrow::Cow;

/// Most codings of one answer that are decoded. None has more than one in practice.
const CODINGS_MAX: usize = 2;

/// Flags of the head of a gzip member (RFC 1952 section 2.3.1).
const HEAD_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

/// Bytes after the data of a gzip member: its checksum and its length.
const TRAILER: usize = 8;

/// Whether `text` is in `beginning`, the beginning of an answer's content. `codings` are those
/// of the answer, in the order in which they were applied. Of what they decode to, the first
/// `most` bytes are searched.
pub fn has_text(beginning: &[u8], codings: &[&str], text: &str, most: usize) -> bool {
    let mut content = Cow::Borrowed(beginning);
    if codings.len() > CODINGS_MAX {
        return false;
    }
    for coding in codings.iter().rev() {
        content = match *coding {
            "gzip" | "x-gzip" => Cow::Owned(gunzip(&content, most)),
            "deflate" => Cow::Owned(inflate(&content, most)),
            "br" => Cow::Owned(unbrotli(&content, most)),
            // Visitors without the dictionary or the decoder cannot have asked for these.
            _ => return false,
        };
    }
    let searched = content.get(..most).unwrap_or(&content);
    forms(text).iter().any(|form| contains(searched, form))
}

fn contains(content: &[u8], form: &[u8]) -> bool {
    form.is_empty() || content.windows(form.len()).any(|window| window == form)
}

/// A text in the charsets that pages have: UTF-8, windows-1252, which includes ISO 8859-1,
/// and UTF-16 in both orders.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![text.as_bytes().to_vec()];
    if !text.is_ascii()
        && let Some(form) = text.chars().map(windows_1252).collect()
    {
        forms.push(form);
    }
    forms.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    forms.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
    forms
}

/// What windows-1252 has from 0x80 on where ISO 8859-1 has controls.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn windows_1252(character: char) -> Option<u8> {
    let special = WINDOWS_1252
        .iter()
        .position(|&special| special == character);
    match special {
        Some(position) => u8::try_from(position).ok()?.checked_add(0x80),
        None => u8::try_from(u32::from(character)).ok(),
    }
}

/// The first `most` bytes of what gzip members decode to, as far as they are there.
fn gunzip(content: &[u8], most: usize) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = content;
    // Each turn consumes a head.
    while decoded.len() < most
        && let Some(data) = after_head(rest)
    {
        let (member, consumed) = decode(data, most.saturating_sub(decoded.len()), 0);
        decoded.extend_from_slice(&member);
        let next = consumed.saturating_add(TRAILER);
        rest = data.get(next..).unwrap_or_default();
    }
    decoded
}

/// What follows the head of a gzip member.
fn after_head(member: &[u8]) -> Option<&[u8]> {
    let (fixed, mut rest) = member.split_at_checked(10)?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else {
        return None;
    };
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_at_checked(2)?;
        let length = u16::from_le_bytes(length.try_into().ok()?);
        rest = after.get(usize::from(length)..)?;
    }
    for _ in [NAME, COMMENT].iter().filter(|&&flag| flags & flag != 0) {
        let end = rest.iter().position(|&byte| byte == 0)?;
        rest = rest.get(end.checked_add(1)?..)?;
    }
    if flags & HEAD_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// The first `most` bytes of what `deflate` decodes to. That is the format of zlib; some
/// servers leave its head out.
fn inflate(content: &[u8], most: usize) -> Vec<u8> {
    let has_head = content.first_chunk::<2>().is_some_and(|&[first, second]| {
        first & 0x0f == 8 && u16::from_be_bytes([first, second]) % 31 == 0
    });
    let flags = match has_head {
        true => TINFL_FLAG_PARSE_ZLIB_HEADER,
        false => 0,
    };
    decode(content, most, flags).0
}

/// Inflates. Returns what came out, and how many bytes went in.
fn decode(content: &[u8], most: usize, flags: u32) -> (Vec<u8>, usize) {
    let flags = flags | TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut decoded = vec![0; most];
    let mut state = Box::<DecompressorOxide>::default();
    // What is not valid ends what can be searched.
    let (_, consumed, written) = decompress(&mut state, content, &mut decoded, 0, flags);
    decoded.truncate(written);
    (decoded, consumed)
}

/// The first `most` bytes of what `br` decodes to.
fn unbrotli(content: &[u8], most: usize) -> Vec<u8> {
    let mut decoded = vec![0; most];
    let (mut left, mut consumed) = (content.len(), 0);
    let (mut room, mut written, mut total) = (most, 0, 0);
    let memory = StandardAlloc::default;
    // Strict: its window has at most 16 MiB. Others may ask for a gigabyte.
    let mut state = BrotliState::new_strict(memory(), memory(), memory());
    // What is not valid, or not there yet, ends what can be searched.
    let _ended = BrotliDecompressStream(
        &mut left,
        &mut consumed,
        content,
        &mut room,
        &mut written,
        &mut decoded,
        &mut total,
        &mut state,
    );
    decoded.truncate(written);
    decoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    const PAGE: &[u8] = b"<html><h1>Down for maintenance</h1>";

    /// `PAGE` in the codings.
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xb3, 0xc9, 0x28, 0xc9, 0xcd,
        0xb1, 0xb3, 0xc9, 0x30, 0xb4, 0x73, 0xc9, 0x2f, 0xcf, 0x53, 0x48, 0xcb, 0x2f, 0x52, 0xc8,
        0x4d, 0xcc, 0xcc, 0x2b, 0x49, 0xcd, 0x4b, 0xcc, 0x4b, 0x4e, 0xb5, 0xd1, 0x07, 0x4a, 0x00,
        0x00, 0x3a, 0xfc, 0xd9, 0x67, 0x23, 0x00, 0x00, 0x00,
    ];
    const ZLIB: &[u8] = &[
        0x78, 0xda, 0xb3, 0xc9, 0x28, 0xc9, 0xcd, 0xb1, 0xb3, 0xc9, 0x30, 0xb4, 0x73, 0xc9, 0x2f,
        0xcf, 0x53, 0x48, 0xcb, 0x2f, 0x52, 0xc8, 0x4d, 0xcc, 0xcc, 0x2b, 0x49, 0xcd, 0x4b, 0xcc,
        0x4b, 0x4e, 0xb5, 0xd1, 0x07, 0x4a, 0x00, 0x00, 0xdc, 0x72, 0x0c, 0x27,
    ];
    const DEFLATE: &[u8] = &[
        0xb3, 0xc9, 0x28, 0xc9, 0xcd, 0xb1, 0xb3, 0xc9, 0x30, 0xb4, 0x73, 0xc9, 0x2f, 0xcf, 0x53,
        0x48, 0xcb, 0x2f, 0x52, 0xc8, 0x4d, 0xcc, 0xcc, 0x2b, 0x49, 0xcd, 0x4b, 0xcc, 0x4b, 0x4e,
        0xb5, 0xd1, 0x07, 0x4a, 0x00, 0x00,
    ];
    const BROTLI: &[u8] = &[
        0x1b, 0x22, 0x00, 0xf8, 0xc5, 0x63, 0x6c, 0x6e, 0x5f, 0x96, 0x37, 0x2c, 0xa6, 0x1e, 0xa4,
        0x90, 0x5d, 0x80, 0x91, 0xcd, 0x04, 0x62, 0x92, 0x17, 0x13, 0x06, 0xf2, 0x5e, 0xe3, 0x01,
        0x00,
    ];
    /// With the name of a file, extra bytes, a comment and a checksum of its head.
    const GZIP_WITH_ALL: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x1e, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x03, 0x00, 0x61, 0x62, 0x63,
        0x70, 0x61, 0x67, 0x65, 0x2e, 0x68, 0x74, 0x6d, 0x6c, 0x00, 0x61, 0x20, 0x63, 0x6f, 0x6d,
        0x6d, 0x65, 0x6e, 0x74, 0x00, 0x78, 0x44, 0xb3, 0xc9, 0x28, 0xc9, 0xcd, 0xb1, 0xb3, 0xc9,
        0x30, 0xb4, 0x73, 0xc9, 0x2f, 0xcf, 0x53, 0x48, 0xcb, 0x2f, 0x52, 0xc8, 0x4d, 0xcc, 0xcc,
        0x2b, 0x49, 0xcd, 0x4b, 0xcc, 0x4b, 0x4e, 0xb5, 0xd1, 0x07, 0x4a, 0x00, 0x00, 0x3a, 0xfc,
        0xd9, 0x67, 0x23, 0x00, 0x00, 0x00,
    ];
    /// `PAGE` in gzip, and that in brotli.
    const GZIP_IN_BROTLI: &[u8] = &[
        0x8b, 0x1a, 0x80, 0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xb3, 0xc9,
        0x28, 0xc9, 0xcd, 0xb1, 0xb3, 0xc9, 0x30, 0xb4, 0x73, 0xc9, 0x2f, 0xcf, 0x53, 0x48, 0xcb,
        0x2f, 0x52, 0xc8, 0x4d, 0xcc, 0xcc, 0x2b, 0x49, 0xcd, 0x4b, 0xcc, 0x4b, 0x4e, 0xb5, 0xd1,
        0x07, 0x4a, 0x00, 0x00, 0x3a, 0xfc, 0xd9, 0x67, 0x23, 0x00, 0x00, 0x00, 0x03,
    ];

    const TEXT: &str = "Down for maintenance";

    fn has(content: &[u8], codings: &[&str], text: &str) -> bool {
        has_text(content, codings, text, 4_096)
    }

    #[test]
    fn a_text_is_found_whatever_the_coding() {
        let two_members = [GZIP_OF_NOTHING, GZIP].concat();
        for (content, codings, expected) in [
            (PAGE, &[][..], true),
            (GZIP, &["gzip"], true),
            (GZIP, &["x-gzip"], true),
            (GZIP_WITH_ALL, &["gzip"], true),
            (&two_members, &["gzip"], true),
            (ZLIB, &["deflate"], true),
            (DEFLATE, &["deflate"], true),
            (BROTLI, &["br"], true),
            (GZIP_IN_BROTLI, &["gzip", "br"], true),
            // Only the beginning has come.
            (GZIP.get(..GZIP.len() - 10).unwrap(), &["gzip"], true),
            (BROTLI.get(..BROTLI.len() - 1).unwrap(), &["br"], true),
            // Something else than the coding says, or that nobody can read.
            (GZIP, &[], false),
            (PAGE, &["gzip"], false),
            (PAGE, &["br"], false),
            (GZIP, &["zstd"], false),
            (GZIP, &["br", "gzip"], false),
            (&[], &["gzip"], false),
        ] {
            assert_eq!(has(content, codings, TEXT), expected, "{codings:?}");
            assert!(!has(content, codings, "Up for maintenance"), "{codings:?}");
        }
    }

    #[test]
    fn only_the_beginning_of_what_is_decoded_is_searched() {
        // 64 KiB of zeros, and the text.
        for (content, coding) in [(LONG_GZIP, "gzip"), (LONG_BROTLI, "br")] {
            let most = |most| has_text(content, &[coding], TEXT, most);
            assert!(most(1 << 17), "{coding}");
            assert!(!most(4_096), "{coding}");
        }
    }

    /// 65,536 zeros and `TEXT`.
    const LONG_GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0xed, 0xc1, 0xc1, 0x09, 0xc0,
        0x20, 0x10, 0x00, 0xb0, 0x1b, 0xc5, 0x61, 0xba, 0x88, 0x88, 0x05, 0x1f, 0x9e, 0x20, 0x82,
        0xeb, 0xbb, 0x48, 0x92, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x88, 0xf8, 0xd6, 0xcd, 0xf2, 0xaf, 0x5d,
        0x66, 0x1d, 0x79, 0x7a, 0xd6, 0x6c, 0xfd, 0x01, 0x5d, 0x79, 0x78, 0xa4, 0x14, 0x00, 0x01,
        0x00,
    ];
    const LONG_BROTLI: &[u8] = &[
        0x5b, 0x13, 0x00, 0x81, 0xff, 0x48, 0xc9, 0xda, 0x1e, 0xa9, 0x01, 0x88, 0xcc, 0xde, 0x34,
        0x88, 0x9b, 0xdc, 0x9d, 0xc2, 0xe7, 0xb1, 0x42, 0xc0, 0xa7, 0xb9, 0xf7, 0x00, 0xa0, 0x2f,
        0xdd, 0x80, 0x01,
    ];
    const GZIP_OF_NOTHING: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x03, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00,
    ];

    #[test]
    fn a_text_is_found_whatever_the_charset() {
        let text = "Größe “ab” 5 €";
        let latin = b"<p>Gr\xf6\xdfe \x93ab\x94 5 \x80";
        assert!(has(latin, &[], text));
        assert!(has(format!("<p>{text}").as_bytes(), &[], text));
        let utf_16 = |to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let page = format!("\u{feff}<p>{text}");
            page.encode_utf16().flat_map(to_bytes).collect()
        };
        assert!(has(&utf_16(u16::to_le_bytes), &[], text));
        assert!(has(&utf_16(u16::to_be_bytes), &[], text));
        // Windows-1252 has no such letters.
        assert!(has("<p>технические работы".as_bytes(), &[], "работы"));
        assert!(!has(latin, &[], "работы"));
    }

    proptest! {
        #[test]
        fn any_content_is_searched(
            content in proptest::collection::vec(any::<u8>(), 0..200),
            start in 0..4_usize,
            cut in 0..100_usize,
            coding in prop_oneof![Just("gzip"), Just("deflate"), Just("br")],
        ) {
            let _ = has(&content, &[coding], TEXT);
            // A good beginning, and then anything.
            let good = [GZIP, ZLIB, BROTLI, GZIP_WITH_ALL].get(start).copied().unwrap_or(GZIP);
            let mut mixed = good.get(..cut).unwrap_or(good).to_vec();
            mixed.extend_from_slice(&content);
            let _ = has(&mixed, &[coding], TEXT);
        }
    }
}
