//! Golden bytes, and bytes that are anything but.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

fn written(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut packet = Vec::new();
    fill(&mut Writer::new(&mut packet, 1200, 5000, 5000, 0xdead_beef));
    packet
}

fn one_chunk(packet: &[u8]) -> Chunk<'_> {
    let mut chunks = Packet::parse(packet).unwrap().chunks();
    let chunk = chunks.next().unwrap().unwrap().parse().unwrap();
    assert!(chunks.next().is_none());
    chunk
}

/// Ports 5000, tag deadbeef, checksum 0.
const HEADER: &str = "1388 1388 deadbeef 00000000";

#[test]
fn crc32c_is_that_of_rfc_9260_appendix_a() {
    // 32 bytes of zeros have the CRC32c 8a9136aa (RFC 3720 B.4), written least significant byte first.
    let mut packet = vec![0; 32];
    seal(&mut packet);
    assert_eq!(packet[8..12], hex("aa36918a"));
    assert_eq!(Packet::parse(&packet).unwrap().checksum(false), Checksum::Right);
    packet[20] = 1;
    assert_eq!(Packet::parse(&packet).unwrap().checksum(true), Checksum::Wrong);
    packet[8..12].fill(0);
    assert_eq!(Packet::parse(&packet).unwrap().checksum(true), Checksum::Zero);
    assert_eq!(Packet::parse(&packet).unwrap().checksum(false), Checksum::Zero);
}

#[test]
fn data_is_written_as_rfc_9260_draws_it() {
    let flags = DataFlags { begin: true, end: true, ..DataFlags::default() };
    let data = Data {
        flags,
        interleaved: false,
        tsn: 0x0102_0304,
        stream: 7,
        message: 0x0001_0009,
        fragment: 0,
        ppid: 51,
        payload: b"hello",
    };
    let packet = written(|to| {
        let at = to.data(&data);
        to.ask_immediate(at);
    });
    let golden = hex(&format!("{HEADER} 00 0b 0015 01020304 0007 0009 00000033 68656c6c6f 000000"));
    assert_eq!(packet, golden);
    let Chunk::Data(read) = one_chunk(&packet) else { panic!() };
    assert_eq!(read, Data { message: 9, flags: DataFlags { immediate: true, ..flags }, ..data });
}

#[test]
fn i_data_is_written_as_rfc_8260_draws_it() {
    let first = Data {
        flags: DataFlags { begin: true, ..DataFlags::default() },
        interleaved: true,
        tsn: 1,
        stream: 2,
        message: 0x0003_0004,
        fragment: 0,
        ppid: 53,
        payload: b"1234",
    };
    let packet = written(|to| _ = to.data(&first));
    assert_eq!(packet, hex(&format!("{HEADER} 40 02 0018 00000001 0002 0000 00030004 00000035 31323334")));
    let Chunk::Data(read) = one_chunk(&packet) else { panic!() };
    assert_eq!(read, first);

    let next = Data { flags: DataFlags::default(), fragment: 9, ppid: 0, ..first };
    let packet = written(|to| _ = to.data(&next));
    assert_eq!(packet, hex(&format!("{HEADER} 40 00 0018 00000001 0002 0000 00030004 00000009 31323334")));
    let Chunk::Data(read) = one_chunk(&packet) else { panic!() };
    assert_eq!(read, next);
}

#[test]
fn sack_is_written_as_rfc_9260_draws_it() {
    let packet = written(|to| to.sack(100, 0x0010_0000, [(2, 3), (5, 5)].into_iter(), &[99]));
    let golden = "03 00 001c 00000064 00100000 0002 0001 0002 0003 0005 0005 00000063";
    assert_eq!(packet, hex(&format!("{HEADER} {golden}")));
    let Chunk::Sack(sack) = one_chunk(&packet) else { panic!() };
    assert_eq!((sack.cumulative, sack.window), (100, 1 << 20));
    assert_eq!(sack.gaps().collect::<Vec<_>>(), [(2, 3), (5, 5)]);
    assert_eq!(sack.duplicates().collect::<Vec<_>>(), [99]);
}

#[test]
fn a_sack_with_more_blocks_than_fit_tells_of_the_first() {
    let packet = written(|to| to.sack(1, 2, (1..2000).map(|n| (2 * n, 2 * n)), &[1, 2, 3]));
    assert!(packet.len() <= 1200);
    let Chunk::Sack(sack) = one_chunk(&packet) else { panic!() };
    assert_eq!(sack.gaps().len(), (1200 - 12 - 16) / 4);
    assert_eq!(sack.duplicates().len(), 0);
}

#[test]
fn init_tells_what_we_can_do() {
    let abilities = Abilities { interleaving: true, reset: true, forward: true, zero_checksum: true };
    let packet = written(|to| {
        to.chunk(kind::INIT, 0, |value| {
            Init::new(0x1111_1111, 0x2222_2222, 0x3333, 0x4444, 0x5555_5555).write_fields(value);
            abilities.write(value);
        });
    });
    let golden = "01 00 0028 11111111 22222222 3333 4444 55555555 \
                  c000 0004  8008 0008 82c040c2  8001 0008 00000001";
    assert_eq!(packet, hex(&format!("{HEADER} {golden}")).as_slice());
    let Chunk::Init(init) = one_chunk(&packet) else { panic!() };
    assert_eq!((init.tag, init.window, init.tsn), (0x1111_1111, 0x2222_2222, 0x5555_5555));
    assert_eq!((init.outbound, init.inbound), (0x3333, 0x4444));
    assert_eq!(init.abilities(), abilities);
    assert_eq!(init.cookie(), None);
    assert_eq!(init.unrecognized().count(), 0);
}

#[test]
fn the_padding_of_the_last_parameter_is_not_in_the_chunks_length() {
    let packet = written(|to| {
        to.chunk(kind::INIT_ACK, 0, |value| {
            Init::new(1, 2, 3, 4, 5).write_fields(value);
            write_cookie(value, b"abc");
            write_cookie(value, b"defgh");
        });
    });
    let golden =
        "02 00 0025 00000001 00000002 0003 0004 00000005 0007 0007 61626300 0007 0009 6465666768 000000";
    assert_eq!(packet, hex(&format!("{HEADER} {golden}")));
    let Chunk::InitAck(init) = one_chunk(&packet) else { panic!() };
    assert_eq!(init.cookie(), Some(&b"abc"[..]));
}

#[test]
fn unknown_parameters_are_reported_and_skipped_as_their_two_upper_bits_say() {
    let with = |kinds: &[u16]| {
        let mut bytes = Vec::new();
        kinds.iter().for_each(|kind| bytes.parameter(*kind, |value| value.push(1)));
        bytes
    };
    let reported = |kinds: &[u16]| {
        let bytes = with(kinds);
        let init = Init { parameters: Parameters::new(&bytes), ..Init::new(1, 2, 3, 4, 5) };
        init.unrecognized().map(|one| one.kind).collect::<Vec<_>>()
    };
    assert_eq!(reported(&[0x8765, 0xc123, 0x9000, 0xc124]), [0xc123, 0xc124], "skip; skip and report");
    assert_eq!(reported(&[0x4321, 0xc123]), [0x4321], "stop and report");
    assert_eq!(reported(&[0x0321, 0xc123]), [0u16; 0], "stop");
    assert_eq!(reported(&[5, 6, 7, 0x8001, 0x8008, 0xc000, 11, 12]), [0u16; 0], "known");
}

#[test]
fn resets_are_written_as_rfc_6525_draws_them() {
    let mut value = Vec::new();
    Reset::write_outgoing(&mut value, 1, 2, 3, &[4]);
    Reset::write_response(&mut value, 5, ResetResult::PERFORMED);
    let golden = "000d 0012 00000001 00000002 00000003 0004 0000  0010 000c 00000005 00000001";
    assert_eq!(value, hex(golden));
    let read: Vec<_> = Parameters::new(&value).map(|one| Reset::parse(&one).unwrap()).collect();
    let Reset::Outgoing { request: 1, response: 2, last: 3, streams } = read[0] else { panic!() };
    assert_eq!(streams.iter().collect::<Vec<_>>(), [4]);
    assert_eq!(read[1], Reset::Response { request: 5, result: ResetResult::PERFORMED });

    let mut value = Vec::new();
    Reset::write_incoming(&mut value, 6, &[7, 8]);
    let read = Reset::parse(&Parameters::new(&value).next().unwrap());
    let Some(Reset::Incoming { request: 6, streams }) = read else { panic!() };
    assert_eq!(streams.iter().collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn both_kinds_of_forward_tsn_are_read() {
    let skip = |stream, unordered, message| sack::Skip { stream, unordered, message };
    let packet = hex(&format!("{HEADER} c0 00 0010 00000009 0001 0002 0003 0004"));
    let Chunk::ForwardTsn(forward) = one_chunk(&packet) else { panic!() };
    assert_eq!((forward.cumulative, forward.interleaved), (9, false));
    assert_eq!(forward.skips().collect::<Vec<_>>(), [skip(1, false, 2), skip(3, false, 4)]);

    let packet = hex(&format!("{HEADER} c2 00 0018 00000009 0001 0001 00000002 0003 0000 00040005"));
    let Chunk::ForwardTsn(forward) = one_chunk(&packet) else { panic!() };
    assert_eq!(forward.skips().collect::<Vec<_>>(), [skip(1, true, 2), skip(3, false, 0x0004_0005)]);
}

#[test]
fn chunks_whose_length_does_not_fit_end_the_packet() {
    let chunks = |text: &str| {
        let packet = hex(&format!("{HEADER} {text}"));
        let packet = Packet::parse(&packet).unwrap();
        packet.chunks().map(|chunk| chunk.map(|chunk| chunk.kind)).collect::<Vec<_>>()
    };
    assert_eq!(chunks("0b 00 0004 0b 00 0005"), [Ok(11), Err(ChunkError::Length)], "too long");
    assert_eq!(chunks("0b 00 0003 0b 00 0004"), [Err(ChunkError::Length)], "shorter than its header");
    assert_eq!(chunks("0b 00 00"), [Err(ChunkError::Length)], "not even a header");
    assert_eq!(chunks("84 00 0006 aaaa 0000 0b 00 0004"), [Ok(132), Ok(11)], "padding is stepped over");
    assert_eq!(chunks("84 00 0006 aaaa"), [Ok(132)], "and may be missing at the end");
    assert!(Packet::parse(&[0; 11]).is_err());
}

#[test]
fn data_without_user_data_is_told_apart_from_malformed_data() {
    let parse = |text: &str| {
        let packet = hex(&format!("{HEADER} {text}"));
        let chunk = Packet::parse(&packet).unwrap().chunks().next().unwrap().unwrap();
        chunk.parse().map(|_| ())
    };
    assert_eq!(parse("00 03 0010 00000001 0002 0003 00000004"), Err(ChunkError::NoUserData(1)));
    assert_eq!(parse("00 03 000c 00000001 0002 0003"), Err(ChunkError::Malformed(0)));
    assert_eq!(parse("40 03 0014 00000007 0002 0000 00000001 00000004"), Err(ChunkError::NoUserData(7)));
    assert_eq!(
        parse("03 00 0010 00000001 00000002 0001 0000"),
        Err(ChunkError::Malformed(3)),
        "a gap is missing"
    );
}

#[test]
fn whatever_the_bytes_reading_ends() {
    let mut random = fastrand::Rng::with_seed(1);
    let valid = written(|to| {
        to.sack(1, 2, [(2, 3)].into_iter(), &[4]);
        to.chunk(kind::RE_CONFIG, 0, |value| Reset::write_outgoing(value, 1, 2, 3, &[4, 5]));
        to.chunk(kind::INIT_ACK, 0, |value| {
            Init::new(1, 2, 3, 4, 5).write_fields(value);
            write_cookie(value, &[6; 30]);
        });
    });
    for _ in 0..20_000 {
        let mut packet = valid.clone();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(0..packet.len());
            packet[at] = random.u8(..);
        }
        packet.truncate(random.usize(0..=packet.len()));
        read_all(&packet);
    }
}

/// Reads all that can be read of a packet. Used by the fuzz target as well.
pub(in crate::peer::engine::sctp) fn read_all(packet: &[u8]) {
    let Ok(packet) = Packet::parse(packet) else { return };
    packet.checksum(true);
    for chunk in packet.chunks().flatten() {
        match chunk.parse() {
            Ok(Chunk::Init(init) | Chunk::InitAck(init)) => {
                init.abilities();
                init.cookie();
                assert!(init.unrecognized().count() <= chunk.value.len() / 4);
            }
            Ok(Chunk::Sack(sack)) => {
                assert!(sack.gaps().len() + sack.duplicates().len() <= chunk.value.len() / 4)
            }
            Ok(Chunk::Abort { causes, .. } | Chunk::Error(causes)) => {
                assert!(causes.count() <= chunk.value.len() / 4);
            }
            Ok(Chunk::ReConfig(parameters)) => {
                for reset in parameters.filter_map(|one| Reset::parse(&one)) {
                    if let Reset::Outgoing { streams, .. } | Reset::Incoming { streams, .. } = reset {
                        assert!(streams.iter().len() <= chunk.value.len() / 2);
                    }
                }
            }
            Ok(Chunk::ForwardTsn(forward)) => assert!(forward.skips().count() <= chunk.value.len() / 4),
            _ => {}
        }
    }
}
