"""Damaged files: a seeded mutator of sound ones, and small nasty ones made here (none is kept in the repository)."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

NUMBERS = (0, 1, -1, 255, 2**31 - 1, 2**31, 2**63, 10**30)
TOKENS = (
    b"null",
    b"true",
    b"-1",
    b"1e308",
    b"1e999",
    b"NaN",
    b"Infinity",
    b'"\\ud800"',
    b"[" * 60,
    b'{"a":' * 60,
    b"{",
    b"}",
    b"]",
    b",",
    b":",
    b'"',
    b"'",
    b"\\",
    b"\n",
    b"\r",
    b"\r\n",
    b"\t",
    b"|",
    b";;",
    b"<",
    b">",
    b"..",
    b"../",
    b"/etc/passwd",
    b"~",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\xcc\x88",
    b"&a ",
    b"*a ",
    b"<<: ",
    b"!!python/name:os.system ",
    b"!!binary ",
    b"2020-01-01",
    b"1:99",
    b"0o9",
    b"- ",
    b"? ",
    b"\\1-grams:",
    b"\\end\\",
    b"ngram 9=9",
    b"http://127.0.0.1:9/",
    b"file:",
    b"hf-hub:a/b",
    b"\x80\x04",
    b"cos\nsystem\n",
    b"PK\x03\x04",
    b"IHDR",
    b"\x1b]0;x\x07",
    b"x" * 5000,
    b"9" * 5000,
)


def mutated(sound: bytes, others: Sequence[bytes], seed: int, most: int = 2**20) -> bytes:
    """A sound file with one to six changes that `seed` decides; at most `most` bytes, or its own size."""
    choose, data = random.Random(seed), bytearray(sound)
    for _ in range(choose.choice((1, 1, 1, 2, 3, 6))):
        place = choose.randrange(len(data) + 1)
        length = min(choose.choice((1, 2, 4, 16, 200)), len(data) - place)
        action = choose.randrange(10)
        if action == 0 and data:
            data[place % len(data)] ^= 1 << choose.randrange(8)
        elif action == 1 and data:
            data[place % len(data)] = choose.choice((0, 1, 9, 10, 32, 34, 47, 48, 57, 127, 128, 255))
        elif action == 2:
            data[place:place] = choose.choice(TOKENS)
        elif action == 3:
            data[place : place + length] = choose.choice(TOKENS)
        elif action == 4:
            del data[place : place + length]
        elif action == 5:
            data[place:place] = data[place : place + length] * choose.choice((1, 2, 50, 2000))
        elif action == 6:
            del data[place:]
        elif action == 7:
            number = choose.choice(NUMBERS)
            text = str(number).encode()
            binary = (number % 2**64).to_bytes(8, choose.choice(("little", "big")))[: choose.choice((1, 2, 4, 8))]
            data[place : place + length] = choose.choice((text, binary))
        elif action == 8 and others:
            other = choose.choice(others)
            start = choose.randrange(len(other) + 1)
            data[place : place + length] = other[start : start + choose.choice((4, 64, 4096))]
        else:
            data[place : place + length] = choose.randbytes(length)
    return bytes(data[: max(most, len(sound))])


class _Run:
    """Unpickled by a careless reader, it would write a file that nobody asked for."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


CANARY = os.path.join(os.path.realpath(os.sep), "tmp", f"slakit-canary-{os.getpid()}")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zip(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def nasty() -> dict[str, bytes]:
    """Small files that have harmed readers of one kind or another, by name."""
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
    )
    merges = "m0: &m0 {k: v}\n" + "".join(
        f"m{i}: &m{i}\n  <<: [{','.join([f'*m{i - 1}'] * 9)}]\n" for i in range(1, 10)
    )
    notebook = "notebook: notebooks/12_ablation_run.ipynb\n"
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes(10**5))) + _chunk(b"IEND", b"")
    screen = b"GIF89a" + struct.pack("<HHBBB", 16000, 16000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\x00"
    return {
        "empty": b"",
        "blank": b" \n\t\r\n",
        "zero bytes": bytes(1000),
        "one byte": b"\xff",
        "mark alone": b"\xef\xbb\xbf",
        "UTF-16": "path,glosses,split\na,B,train\n".encode("utf-16"),
        "Latin-1": "a|ÄRGER\n".encode("latin-1"),
        "surrogate in UTF-8": b"a \xed\xa0\x80 b\n",
        "one endless line": b"a " * 200_000,
        "many lines": b"ab\n" * 200_000,
        "many commas": b"," * 200_000,
        "one open quote": b'path,glosses,split\n"' + b"a\n" * 10_000,
        "deep JSON": b"[" * 100_000,
        "deep closed JSON": b"[" * 5000 + b"]" * 5000,
        "deep mappings": b'{"model":' * 500 + b"1" + b"}" * 500,
        "digits": b"9" * 100_000,
        "JSON digits": b'{"seed": ' + b"9" * 5000 + b"}",
        "JSON of NaN": b'{"train": {"gamma": NaN}}',
        "JSON null": b"null",
        "JSON list": b"[1]",
        "JSON text": b'"x"',
        "lone surrogate": b'{"name": "\\ud800"}',
        "keys twice": b'{"train": {"seed": 1}, "train": {"seed": 2}}',
        "preset null": b'{"preset": null}',
        "preset list": b'{"preset": [[]]}',
        "JSON of a folder": json.dumps({"out_dir": "\0"}).encode(),
        "alias bomb": (notebook + bomb + "base: {x: *a9}\n").encode(),
        "merge bomb": (notebook + merges + "base: *m9\n").encode(),
        "recursive anchor": b"base: &a {x: *a}\n",
        "recursive list": b"&a [*a]\n",
        "deep YAML": b"{a: " * 2000,
        "deep flow": b"[" * 3000 + b"]" * 3000,
        "YAML object": b"base: !!python/object/apply:os.system ['touch x']\n",
        "YAML date": notebook.encode() + b"base: {x: 2020-01-01}\n",
        "YAML binary": notebook.encode() + b"base: {x: !!binary aGk=}\n",
        "grid without end": notebook.encode()
        + b"grid: {"
        + b", ".join(b"p%d: [0,1,2,3,4,5,6,7,8,9]" % i for i in range(9))
        + b"}\n",
        "expect 5": notebook.encode() + b"expect: 5\n",
        "YAML documents": b"--- 1\n--- 2\n",
        "YAML tab": b"\t- a\n",
        "pickled program": pickle.dumps(_Run()),
        "pickle of a name": b"cos\nsystem\n(S'true'\ntR.",
        "pickle put": b"\x80\x04r\xff\xff\xff\xff.",
        "deep pickle": b"]" * 10_000 + b"a" * 9_999 + b".",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 24\n{ } loop\n",
        "PDF": b"%PDF-1.4\n%\xff\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "PNG bomb": b"\x89PNG\r\n\x1a\n" + header + pixels,
        "GIF of 256 million pixels": screen + frame + b";",
        "GIF of five of them": screen + frame * 5 + b";",
        "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "zip bomb": _zip(**{"archive/data.pkl": bytes(10**7), "settings.npy": bytes(10**7)}),
        "zip of code": _zip(**{"x/code/a.py": b"import os", "x/data.pkl": pickle.dumps(_Run())}),
        "npz of nothing": _npz(),
        "npz of a number": _npz(settings=np.array("5"), ids=np.array(["a"])),
        "npy header": b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (10**12,), }     \n",
        "safetensors of nothing": struct.pack("<Q", 2) + b"{}",
        "safetensors header": struct.pack("<Q", 2**40) + b"{}",
        "safetensors deep": struct.pack("<Q", 3000) + b'{"a":' * 500 + b"1" * 500,
        "RIFF": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        "TIFF loop": b"II*\0\x08\0\0\0\x01\0\0\1\4\0\1\0\0\0\xff\0\0\0\x08\0\0\0",
        "terminal": b"a 1 0 1 \x1b]0;x\x07\x1b[31mG\n",
        "override": "a 1 0 1 \u202eGLOSS\n".encode(),
        "markup": b"a 1 S 0 1 { B / C D } E\n",
        "alternatives": b"a 1 * * <ALT_BEGIN>\na 1 0 1 X\n",
        "ARPA of orders": b"\\data\\\nngram 99=1\n\\99-grams:\n-1 a\n\\end\\\n",
        "ARPA of minus one": b"\\-1-grams:\n\\end\\\n",
    }
