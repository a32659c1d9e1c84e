"""How far imagery tiles one to three zooms out are from an exact average of the area under every pixel, beside GDAL's warper.

    python benches/zoomed_out.py PROGRAM        (numpy, pillow, rasterio)

The imagery is a part of the demo's world (a coast, with noise) in files without overviews, with overviews by average and by nearest pixel, and as JPEG 2000.
"""

import io
import os
import subprocess
import sys
import tempfile
import urllib.request

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

SIDE, ZOOM, WORLD = 2048, 18, 40_075_016.685578488
PIXEL = WORLD / 2**ZOOM / 256
# A tile whose number divides by eight, so that files begin with a tile at all zooms.
COLUMN, ROW = 2**17 + 96, 2**18 // 3 // 8 * 8
TRANSFORM = from_origin(COLUMN * 256 * PIXEL - WORLD / 2, WORLD / 2 - ROW * 256 * PIXEL, PIXEL, PIXEL)
PLACE = dict(width=SIDE, height=SIDE, count=3, dtype="uint8", crs="EPSG:3857", transform=TRANSFORM)


def picture():
    Image.MAX_IMAGE_PIXELS = None
    world = Image.open(os.path.join(os.path.dirname(__file__), "..", "static", "demo", "world.tif")).convert("RGB")
    part = world.crop((2400, 100, 2400 + SIDE // 2, 100 + SIDE // 2)).resize((SIDE, SIDE), Image.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 2, (SIDE, SIDE, 3))
    return np.clip(np.asarray(part) + noise, 0, 255).astype("u1").transpose(2, 0, 1).copy()


def write(folder):
    values = picture()
    tiled = dict(driver="GTiff", tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    for name, how in (("none", None), ("average", Resampling.average), ("nearest", Resampling.nearest)):
        with rasterio.open(os.path.join(folder, name + ".tif"), "w", **tiled, **PLACE) as file:
            file.write(values)
            if how is not None:
                file.build_overviews([2, 4, 8], how)
    with rasterio.open(os.path.join(folder, "wavelets.jp2"), "w", driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES", **PLACE) as file:
        file.write(values)
    return ["none.tif", "average.tif", "nearest.tif", "wavelets.jp2"]


def tiles(base, name, out):
    count = SIDE // 256 >> out
    shown = np.zeros((3, SIDE >> out, SIDE >> out))
    for down in range(count):
        for across in range(count):
            place = f"{ZOOM - out}/{(COLUMN >> out) + across}/{(ROW >> out) + down}"
            with urllib.request.urlopen(f"{base}/v1/sources/{name.split('.')[0]}/tiles/{place}.png") as answer:
                tile = np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))
            shown[:, down * 256 : down * 256 + 256, across * 256 : across * 256 + 256] = tile.transpose(2, 0, 1)
    return shown


def main(program):
    far = lambda a, b: f"{np.percentile(abs(a - b), 99):5.1f} {abs(a - b).mean():5.2f}"
    with tempfile.TemporaryDirectory() as folder:
        names = write(folder)
        sources = [word for name in names for word in ("--source", f"{name.split('.')[0]}={folder}/{name}")]
        server = subprocess.Popen([program, "--port", "0", *sources], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        base = "http" + server.stdout.readline().split("http", 1)[1].strip()
        print("grey levels from the exact average (99th percentile, mean): this server, GDAL")
        for name in names:
            with rasterio.open(os.path.join(folder, name)) as file:
                full = file.read().astype("f8")
                for out in (1, 2, 3):
                    f = 2**out
                    exact = full.reshape(3, SIDE // f, f, SIDE // f, f).mean((2, 4))
                    grid = from_origin(TRANSFORM.c, TRANSFORM.f, PIXEL * f, PIXEL * f)
                    with WarpedVRT(file, transform=grid, width=SIDE // f, height=SIDE // f, resampling=Resampling.bilinear) as warped:
                        gdal = warped.read().astype("f8")
                    print(f"{name:13} {out} out: {far(tiles(base, name, out), exact)}  {far(gdal, exact)}", flush=True)
        server.kill()


if __name__ == "__main__":
    main(sys.argv[1])
