"""Damage to headers that are text: numbers, words and lines change, the rest stays well-formed."""

from __future__ import annotations

import random
import re

NUMBERS = (
    b"0", b"-1", b"1", b"2", b"1e400", b"nan", b"inf", b"-inf", b"1e-320", b"99999999999999999999",
    b"2147483648", b"65536", b"1e9", b"0x10", b"0.5", b"-0.0", b"4096", b"3", b"7", b"1e5", b"''",
    b"true", b"[]", b"{}", b'"text"', b"[1, 2, 3]", b"1_000", b"\xd9\xa3",
)  # fmt: skip
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]{1,40}")
_QUOTED = re.compile(rb'"[^"\n]{0,200}"' + rb"|'[^'\n]{0,200}'|>[^<>\n]{1,200}<")
# what should never be opened, however it is named
TRAPS = (
    b"/etc/hostname", b"../../../../../../etc/hostname", b"/dev/zero", b"/proc/self/environ",
    b"file:///etc/hostname", b"http://127.0.0.1:9/x", b"~/x", b".", b"", b"scan.npy\\u0000.npy",
    b"C:\\\\x", b"..", b"/",
)  # fmt: skip
_XML = (
    b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>", b"<!ENTITY e 'x'>", b"&e;",
    b"&#0;", b"&lt;", b"<?xml-stylesheet href='http://127.0.0.1:9/x'?>", b"<![CDATA[1]]>", b"<a>",
    b"</encoding>", b"<encoding></encoding>", b"<!-- -->", b"\xff", b"<x xmlns='y'/>",
)  # fmt: skip


def is_text(data: bytes) -> bool:
    """Whether a header of text lies at the beginning of a file (or all of it is)."""
    head = data[:512]
    printable = sum(32 <= c < 127 or c in b"\r\n\t" for c in head)
    return printable > 0.5 * max(len(head), 1) or b"ASCCONV" in data


def change_text(rng: random.Random, data: bytes) -> bytes | None:
    """Change a number, a word, a quoted text or a line; ``None`` if there is none of the kind."""
    changes = (_number, _number, _number, _word, _quoted, _quoted, _line, _repeat, _xml)
    result: bytes | None = data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        changed = rng.choice(changes)(rng, data)
        if changed is not None:
            result = data = changed
    return result


def _one(rng: random.Random, pattern: re.Pattern[bytes], data: bytes) -> re.Match[bytes] | None:
    found = list(pattern.finditer(data, 0, 200_000))
    return rng.choice(found) if found else None


def _replace(data: bytes, match: re.Match[bytes], value: bytes) -> bytes:
    return data[: match.start()] + value + data[match.end() :]


def _number(rng: random.Random, data: bytes) -> bytes | None:
    match = _one(rng, _NUMBER, data)
    if match is None:
        return None
    value = rng.choice(NUMBERS)
    if rng.random() < 0.3:
        try:
            value = str(int(match.group()) + rng.choice((1, -1))).encode()
        except ValueError:
            value = match.group() + b"9"
    # binary containers keep their offsets when the length stays
    if rng.random() < 0.5:
        value = value[: len(match.group())].ljust(len(match.group()))
    return _replace(data, match, value)


def _word(rng: random.Random, data: bytes) -> bytes | None:
    match, other = _one(rng, _WORD, data), _one(rng, _WORD, data)
    if match is None or other is None:
        return None
    changed = bytearray(match.group())
    changed[rng.randrange(len(changed))] = rng.choice(b"aeZ_9-\xc3")
    return _replace(data, match, rng.choice((bytes(changed), other.group(), b"", b"x" * 3000)))


def _quoted(rng: random.Random, data: bytes) -> bytes | None:
    match, other = _one(rng, _QUOTED, data), _one(rng, _QUOTED, data)
    if match is None or other is None:
        return None
    inside = rng.choice((*TRAPS, *NUMBERS, other.group()[1:-1], b"x" * 5000, b"\x1b]0;x\x07"))
    return _replace(data, match, match.group()[:1] + inside + match.group()[-1:])


def _line(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.randrange(4)
    if change == 0:
        del lines[at]
    elif change == 1:
        lines.insert(at, lines[other])
    elif change == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines.insert(at, b"x = " + b"[" * 5000)
    return b"\n".join(lines)


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(max(len(data), 1))
    part = data[start : start + rng.randrange(1, 200)]
    return data[:start] + part * rng.choice((2, 3, 300)) + data[start:]


def _xml(rng: random.Random, data: bytes) -> bytes | None:
    at = data.find(b"<", rng.randrange(max(len(data), 1)))
    return None if at < 0 else data[:at] + rng.choice(_XML) + data[at:]
