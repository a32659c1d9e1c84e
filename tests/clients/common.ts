/** What the round trips of all TypeScript clients share: arguments, files, checks. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

/** A server without keys, one that needs a key, that key, and a GeoTIFF. */
export const [BASE, KEYED_BASE, KEY, RASTER] = process.argv.slice(2);

/** Takes several captures. */
export const PAIR_MODEL = "Sentinel2_Resnet50_MI_RGB";

/** The GeoTIFF as a file of a form. */
export const image = new File([readFileSync(RASTER)], "trees.tif", { type: "image/tiff" });

/** Waits between two looks at a job. */
export const pause = () => new Promise((done) => setTimeout(done, 100));

/** Checks that a blob begins with the signature of its format. */
export async function assertBegins(blob: Blob | undefined | null, signature: string) {
  assert.ok(blob);
  const start = Buffer.from(await blob.slice(0, signature.length).arrayBuffer());
  assert.equal(start.toString("latin1"), signature);
}

/** Signatures of files. */
export const PNG = "\x89PNG";
export const NPY = "\x93NUMPY";
