"""Signatures at fixed places, by which most formats with a header are told (each format's own specification)."""

import struct

_AT_START: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", "application/x-elf"),
    (b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"dex\n0", "application/vnd.android.dex"),
    (b"\0asm", "application/wasm"),
    (b"ITSF", "application/vnd.ms-htmlhelp"),
    (b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46", "application/x-ms-shortcut"),  # MS-SHLLINK 2.1
    (b"#@~^", "application/x-jscript-encode"),
    (b"!<arch>\ndebian-binary", "application/vnd.debian.binary-package"),
    (b"!<arch>\n", "application/x-archive"),
    (b"!<thin>\n", "application/x-archive"),
    (b"\xed\xab\xee\xdb", "application/x-rpm"),
    (b"xar!", "application/x-xar"),
    (b"Cr24", "application/x-chrome-extension"),
    (b"FWS", "application/x-shockwave-flash"),
    (b"CWS", "application/x-shockwave-flash"),
    (b"ZWS", "application/x-shockwave-flash"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"LZIP", "application/x-lzip"),
    (b"\x04\x22\x4d\x18", "application/x-lz4"),
    (b"\x02\x21\x4c\x18", "application/x-lz4"),
    (b"\x1f\x9d", "application/x-compress"),
    (b"\x1f\xa0", "application/x-compress"),
    (b"\x89LZO\0\r\n\x1a\n", "application/x-lzop"),
    (b"LRZI", "application/x-lrzip"),
    (b"GRZipII\0", "application/x-grzip"),
    (b"RE\x7e\x5e", "application/vnd.rar"),  # before 1.50
    (b"ISc(", "application/x-installshield"),
    (b"conectix", "application/x-vhd"),
    (b"vhdxfile", "application/x-vhdx"),
    (b"KDMV", "application/x-raw-disk-image"),
    (b"QFI\xfb", "application/x-raw-disk-image"),
    (b"MSWIM\0\0\0", "application/x-ms-wim"),
    (b"\x60\xea", "application/x-arj"),
    (b"070701", "application/x-cpio"),
    (b"070702", "application/x-cpio"),
    (b"070707", "application/x-cpio"),
    (b"\xc7\x71", "application/x-cpio"),
    (b"\x71\xc7", "application/x-cpio"),
    (b"StuffIt ", "application/x-stuffit"),
    (b"SIT!", "application/x-stuffit"),
    (b"SZDD\x88\xf0\x27\x33", "application/x-szdd"),
    (b"KWAJ\x88\xf0\x27\xd1", "application/x-szdd"),
    (b"(This file must be converted with BinHex", "application/mac-binhex40"),
    (b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),  # MS-OXTNEF 2.1.3.1
    (b"!BDN", "application/x-ms-pst"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "application/onenote"),  # MS-ONESTORE 2.3.1
    (b"\xa1\x2f\xff\x43\xd9\xef\x76\x4c\x9e\xe2\x10\xea\x57\x22\x76\x5f", "application/onenote"),
    (b"%!", "application/postscript"),
    (b"\x04%!PS", "application/postscript"),
    (b"\xc5\xd0\xd3\xc6", "image/x-eps"),
    (b"HWP Document File", "application/x-hwp"),
    (b"AT&TFORM", "image/vnd.djvu"),
    (b"\xffWPC", "application/vnd.wordperfect"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"8BPS\0\x01", "image/vnd.adobe.photoshop"),
    (b"8BPS\0\x02", "image/vnd.adobe.photoshop"),
    (b"\xd7\xcd\xc6\x9a", "image/wmf"),
    (b"\x01\0\x09\0\0\x03", "image/wmf"),
    (b"\x02\0\x09\0\0\x03", "image/wmf"),
    (b"gimp xcf ", "image/x-xcf"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"MThd", "audio/midi"),
    (b"#!AMR", "audio/amr"),
    (b"OggS", "audio/ogg"),
    (b"FLV\x01", "video/x-flv"),
    (b"\0\0\x01\xba", "video/mpeg"),
    (b"\0\0\x01\xb3", "video/mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"-----BEGIN PGP MESSAGE", "application/pgp-encrypted"),
    (b"-----BEGIN PGP PUBLIC KEY", "application/pgp-keys"),
    (b"-----BEGIN PGP PRIVATE KEY", "application/pgp-keys"),
    (b"-----BEGIN PGP SIGNATURE", "application/pgp-signature"),
    (b"-----BEGIN ", "application/x-pem-file"),
    (b"\0\x01\0\0\0", "font/ttf"),
    (b"ttcf", "font/ttf"),
    (b"true\0", "font/ttf"),
    (b"OTTO", "font/otf"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"d8:announce", "application/x-bittorrent"),
    (b"d10:created by", "application/x-bittorrent"),
    (b"d13:announce-list", "application/x-bittorrent"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"\0\x01\0\0Standard Jet DB", "application/vnd.ms-access"),
    (b"\0\x01\0\0Standard ACE DB", "application/vnd.ms-access"),
    (b"\xd4\xc3\xb2\xa1", "application/vnd.tcpdump.pcap"),
    (b"\xa1\xb2\xc3\xd4", "application/vnd.tcpdump.pcap"),
    (b"\x0a\x0d\x0d\x0a", "application/vnd.tcpdump.pcap"),
    (b"bplist0", "application/x-plist"),
)

_AT_PLACE: tuple[tuple[int, bytes, str], ...] = (
    (7, b"**ACE**", "application/x-ace"),
    (20, b"\xdc\xa7\xc4\xfd", "application/x-zoo"),
    (257, b"ustar", "application/x-tar"),
    (40, b" EMF", "image/emf"),
    (36, b"acsp", "application/vnd.iccprofile"),
    (128, b"DICM", "application/dicom"),
)

# ISO base media file format (ISO 14496-12, 4.3): the major brand.
_BRANDS = {
    b"heic": "image/heic", b"heix": "image/heic", b"hevc": "image/heic", b"heim": "image/heic", b"mif1": "image/heic",
    b"msf1": "image/heic", b"avif": "image/avif", b"avis": "image/avif", b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"jxl ": "image/jxl", b"jp2 ": "image/jp2",
}  # fmt: skip
_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav", b"RMID": "audio/midi"}

_PKCS7 = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"  # 1.2.840.113549.1.7
_TIME_STAMPED = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x1f"  # 1.2.840.113549.1.9.16.1.31

_BY_FIRST: dict[int, list[tuple[bytes, str]]] = {}
for _octets, _kind in _AT_START:
    _BY_FIRST.setdefault(_octets[0], []).append((_octets, _kind))


def fixed_types(data: bytes) -> list[str]:
    """Return the types whose signature stands at its place; one for each place."""
    found = [kind for octets, kind in _BY_FIRST.get(data[0], ()) if data.startswith(octets)][:1] if data else []
    found += [kind for place, octets, kind in _AT_PLACE if data.startswith(octets, place)]
    found += _by_structure(data)
    return found


def _by_structure(data: bytes) -> list[str]:
    first = data[:4]
    if first[:2] in (b"MZ", b"ZM"):
        return [_exe_type(data)]
    if first == b"\xca\xfe\xba\xbe":
        # A class file has its version here, from 45 (JVMS 4.1); a fat Mach-O the number of its architectures.
        return ["application/java-vm" if int.from_bytes(data[4:8]) >= 45 else "application/x-mach-binary"]
    if data[4:8] == b"ftyp":
        return [_BRANDS.get(data[8:12], "video/3gpp" if data[8:11] in (b"3gp", b"3g2") else "video/mp4")]
    if data[4:8] in (b"moov", b"mdat", b"wide", b"skip"):
        return ["video/quicktime"]
    if first in (b"RIFF", b"RIFX"):
        return [_RIFF.get(data[8:12], "application/octet-stream")]
    if first == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return ["audio/aiff"]
    if first == b"\x1aE\xdf\xa3":
        return ["video/webm" if b"webm" in data[:64] else "video/x-matroska"]
    return _by_few_octets(data)


def _by_few_octets(data: bytes) -> list[str]:
    """Tell formats whose signature is so short that more of the header must fit."""
    if data[:3] == b"BZh" and data[3:4].isdigit() and data[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return ["application/x-bzip2"]
    if data[2:5] == b"-lh" or data[2:5] == b"-lz" or data[2:5] == b"-pm":
        return ["application/x-lzh-compressed"] if data[6:7] == b"-" else []
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0" and len(data) > 18:
        return ["image/bmp"] if data[14] in (12, 40, 52, 56, 64, 108, 124) else []
    if data[:3] == b"\0\0\x01" or data[:3] == b"\0\0\x02":
        return (
            ["image/vnd.microsoft.icon"] if data[3:4] == b"\0" and 0 < int.from_bytes(data[4:6], "little") < 64 else []
        )
    if data[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa"):
        return ["audio/mpeg"]
    if data[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return ["audio/aac"]
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace() and data[3:4] in b"#0123456789":
        return ["image/x-portable-anymap"]
    if data[:1] == b"G" and len(data) > 376 and data[188:189] == b"G" and data[376:377] == b"G":
        return ["video/mp2t"]
    if data[:2] == b"AC" and data[2:6].isdigit():
        return ["image/vnd.dwg"]
    if data[2:4] == b"\r\n" and data[:2] in (b"\xa7\x0d", b"\xcb\x0d", b"\x6f\x0d", b"\x55\x0d", b"\x42\x0d"):
        return ["application/x-python-bytecode"]
    return _by_asn1(data) if data[:1] == b"\x30" else _lzma_alone(data)


def _by_asn1(data: bytes) -> list[str]:
    """Tell DER and BER by the first fields: CMS (RFC 5652 section 3, RFC 5544), certificates (RFC 5280), PKCS #12."""
    begin = data[:40]
    if any(oid in begin for oid in (_PKCS7, _TIME_STAMPED)):
        return ["application/pkcs7-mime"]
    if data[1:2] == b"\x82" and data[4:6] == b"\x30\x82" and data[8:13] == b"\xa0\x03\x02\x01\x02":
        return ["application/pkix-cert"]
    place = 4 if data[1:2] == b"\x82" else 2
    return ["application/pkcs12"] if data[place : place + 4] in (b"\x02\x01\x03\x30",) else []


def _lzma_alone(data: bytes) -> list[str]:
    """The old .lzma header: properties, dictionary size, unpacked size or none (LZMA SDK, lzma.txt)."""
    if data[:1] != b"\x5d" or len(data) < 18:
        return []
    dictionary, size = struct.unpack_from("<IQ", data, 1)
    plausible = dictionary & (dictionary - 1) == 0 and (size == 0xFFFFFFFFFFFFFFFF or size < 1 << 38)
    return ["application/x-lzma"] if plausible and data[13] == 0 else []


def _exe_type(data: bytes) -> str:
    """Windows goes on at the offset in the DOS header's last field (PE/COFF specification, section 2)."""
    if len(data) >= 64:
        place = int.from_bytes(data[60:64], "little")
        if data.startswith(b"PE\0\0", place):
            return "application/vnd.microsoft.portable-executable"
        if data[place : place + 2] in (b"NE", b"LE", b"LX"):
            return "application/x-ms-ne-executable"
    return "application/x-dos-executable"
