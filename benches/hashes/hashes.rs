//! Hashes the file that is named second by the function that is named first, once; `none` only reads it. For
//! `inflate` the file is a raw deflate stream (RFC 1951).

use std::hash::Hasher;
use std::hint::black_box;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(function), Some(file)) = (args.next(), args.next()) else { panic!("hashes FUNCTION FILE") };
    let bytes = std::fs::read(file).expect("a file");
    let data = black_box(&bytes[..]);
    match function.as_str() {
        "none" => {}
        "inflate" => drop(black_box(miniz_oxide::inflate::decompress_to_vec(data).expect("deflate"))),
        "crc32" => drop(black_box(crc32fast::hash(data))),
        "siphash13" => drop(black_box(siphash(siphasher::sip128::SipHasher13::new_with_keys(1, 2), data))),
        "siphash24" => drop(black_box(siphash(siphasher::sip128::SipHasher24::new_with_keys(1, 2), data))),
        "poly1305" => {
            use poly1305::universal_hash::{KeyInit, UniversalHash};
            let mut hash = poly1305::Poly1305::new(&[3; 32].into());
            hash.update_padded(data);
            black_box(hash.finalize());
        }
        "blake2s" => drop(black_box(<blake2::Blake2s256 as blake2::Digest>::digest(data))),
        "blake3" => drop(black_box(blake3::hash(data))),
        "sha256-ring" => drop(black_box(ring::digest::digest(&ring::digest::SHA256, data))),
        "sha256" => drop(black_box(<sha2::Sha256 as sha2::Digest>::digest(data))),
        other => panic!("there is no {other}"),
    }
}

fn siphash<H: Hasher + siphasher::sip128::Hasher128>(mut hash: H, data: &[u8]) -> u128 {
    hash.write(data);
    hash.finish128().as_u128()
}
