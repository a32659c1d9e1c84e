"""Small files that ask for much: each function writes one, or returns its bytes."""

import json
import sqlite3
import struct
import zlib


def _png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(width, height, bits=8, color=2):
    """A black PNG; `color` 2 is RGB, 6 is RGBA."""
    channels = {0: 1, 2: 3, 6: 4}[color]
    row = bytes(1 + width * channels * bits // 8)
    packer = zlib.compressobj(9)
    data = b"".join([packer.compress(row) for _ in range(height)] + [packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", data) + _png_chunk(b"IEND", b"")


def odd_palette_png(side=40, palette_bytes=265):
    """A PNG whose palette is no whole number of colours."""
    header = struct.pack(">IIBBBBB", side, side, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + bytes((row * side + col) % 256 for col in range(side)) for row in range(side))
    chunks = [(b"IHDR", header), (b"PLTE", bytes(palette_bytes)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _tiff(directories, body):
    """A little-endian TIFF: directories as lists of (tag, type, count, value), placed behind `body`."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8 + len(body) + len(body) % 2) + body + bytes(len(body) % 2))
    for index, entries in enumerate(directories):
        after = len(out) + 6 + 12 * len(entries)
        out += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        out += struct.pack("<I", after if index + 1 < len(directories) else 0)
    return bytes(out)


def one_strip_tiff(side=9400):
    """Three bands of signed bytes in one strip."""
    packer = zlib.compressobj(9)
    row = bytes(3 * side)
    strip = b"".join([packer.compress(row) for _ in range(side)] + [packer.flush()])
    main = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 3), (278, 4, 1, side), (279, 4, 1, len(strip)), (339, 3, 1, 2)]
    return _tiff([main], strip)


def shared_masks_tiff(masks=14, width=4096, height=8192):
    """A pixel, and masks of 1 x 1 px tiles that share one array of offsets, a byte each."""
    tiles = width * height
    main = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1)]
    mask = [(254, 4, 1, 4), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
            (277, 3, 1, 1), (322, 3, 1, 1), (323, 3, 1, 1), (324, 1, tiles, 8), (325, 1, tiles, 8)]
    return _tiff([main] + [mask] * masks, bytes(tiles))


def endless_mbtiles(path):
    """An MBTiles file whose tiles are a recursive view without an end."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        connection.execute(
            "CREATE VIEW tiles AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
            "SELECT 0 AS zoom_level, n AS tile_column, 0 AS tile_row, x'00' AS tile_data FROM c WHERE n < 0")


def large_manifest(identity, megabytes=0.94, heads=30, categories=800):
    """A manifest of about the given size: many heads with many categories."""
    length = int(megabytes * 1e6 / (heads * categories) - 3)
    names = [("%d" % number).rjust(length, "n") for number in range(categories)]
    heads = [{"task": "task_%d" % number, "type": "segment", "categories": names} for number in range(heads)]
    manifest = {"id": identity, "base": "Sentinel2_SwinT_SI_RGB", "seed": 1, "heads": heads}
    return json.dumps(manifest, separators=(",", ":")).encode()


def npy(shape, descr="|u1", values=None):
    """An array of zeros, or of `values`."""
    text = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (descr.encode(), str(shape).encode())
    count = int(descr[2:]) * (1 if values is None else 0)
    for side in shape:
        count *= side
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.ljust(117) + b"\n" + (bytes(count) if values is None else values)


def odd_npys():
    """Headers of every odd form, and shapes whose product overflows."""
    head = lambda text: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    shape = lambda text: head(b"{'descr': '|u1', 'fortran_order': False, 'shape': %s}" % text) + bytes(64)
    return [
        head(b"{" * 100), head(b"(" * 9000), head(b"{'shape': " + b"(" * 9000), b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x03\x00\xff\xff\xff\x7f" + bytes(100), b"\x93NUMPY", b"\x93NUMPY\x01", head(b"'" * 9999), head(b" " * 9999),
        head(b"{'descr': '" + b"a" * 9000 + b"', 'fortran_order': False, 'shape': (1, 1)}"), head(b"{'descr': {'descr': {}}}"),
        head(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1,1), " * 100 + b"}"), shape(b"(%s)" % (b"1," * 4000)),
        shape(b"(18446744073709551615, 2)"), shape(b"(4294967296, 4294967296)"), shape(b"(2, 2305843009213693952, 2, 2)"),
        shape(b"(65536, 65536, 65536, 65536)"), shape(b"(1, 1, 1, 18446744073709551616)"), shape(b"(0, 0)"), shape(b"(-1, -1)"),
        shape(b"(1e9, 1)"), shape(b"()"), shape(b"(64, 1, 1, 1)"), shape(b"(1, 4096, 134217728)"), shape(b"[8, 8]"), shape(b"(8 8)"),
    ]


def zigzag(teeth=15_000, west=-170.0, east=170.0, south=-60.0, north=70.0):
    """A polygon whose edges all run from one side of the area to the other."""
    step = (north - south) / teeth
    corners = [[east if tooth % 2 else west, round(south + tooth * step, 5)] for tooth in range(teeth)]
    return {"type": "Polygon", "coordinates": [corners + [[west, north], corners[0]]]}


def chained_tiff(directories=65_000):
    """A pixel, and a long chain of directories that share it."""
    return _tiff([[(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
                   (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1)]] * directories, b"\0\0")


def circular_tiff():
    """A pixel whose directory comes after itself."""
    tiff = bytearray(chained_tiff(1))
    tiff[-4:] = tiff[4:8]
    return bytes(tiff)


def long_tags_tiff(count=120_000_000, tags=60):
    """A pixel with many tags that all claim the same long array of values."""
    body = bytes(1 << 20)
    main = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1),
            (278, 3, 1, 1), (279, 4, 1, 1)]
    huge = [(tag, 12, min(count, len(body) // 8), 8) for tag in (33550, 33922, 34264, 34736, 42112)]
    return _tiff([sorted(main + huge + [(40000 + tag, 2, len(body), 8) for tag in range(tags)])], body)


def gzip_bomb(megabytes=1024):
    """Zeros of so many megabytes, as gzip."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(megabytes)] + [packer.flush()])


def nested(depth, opening=b"[", closing=b"]"):
    return opening * depth + b"0" + closing * depth


def stac_items(count):
    """A collection of so many items."""
    item = {"type": "Feature", "id": "i", "geometry": None, "bbox": [0, 0, 1, 1], "properties": {"datetime": "2024-01-01T00:00:00Z"},
            "assets": {"B02": {"href": "one.tif"}}}
    return json.dumps({"type": "FeatureCollection", "features": [dict(item, id="i%d" % n) for n in range(count)]}).encode()


def labels(points):
    """A fit on so many points."""
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [8.5, 25]}, "properties": {"class": "a"}}
    text = json.dumps(feature, separators=(",", ":")).encode()
    return b'{"id":"p","source":"world","task":"ground","type":"segment","labels":{"type":"FeatureCollection","features":[' + \
        b",".join([text] * points) + b"]}}"
