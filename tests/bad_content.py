"""Bodies that nobody can decode, as strangers write them; every broker's tests send them all."""

UNDECODABLE = {
    "cut short": b'{"n": ',
    "empty": b"",
    "no JSON": b"hello",
    "two values": b"1 2",
    "too deep": b"[" * 100_000 + b"]" * 100_000,
    "no UTF-8": b'"\xff\xfe"',
    "lone surrogate": b'"\\ud800"',
    "raw surrogate": b'"\xed\xa0\x80"',
    "NaN": b"NaN",
    "infinity": b"[1, -Infinity]",
    "control character": b'"\x01"',
    "byte order mark": b"\xef\xbb\xbf{}",
    "NUL bytes": b"\x00" * 10,
}
