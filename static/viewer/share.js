/** The same answers without this page: curl commands and URLs for what is shown, ready to copy. */

import { absolute, apiKey, predictPath } from "./api.js";
import { byId, icon } from "./dom.js";
import { sharedTiles, uploadOptions } from "./result.js";

/** The tile of a zoom at a place. */
function tileAt({ lat, lon }, zoom) {
  const n = 2 ** zoom;
  const phi = lat * (Math.PI / 180);
  const clamp = (value) => Math.min(Math.max(Math.floor(value), 0), n - 1);
  return { z: zoom, x: clamp(((lon + 180) / 360) * n), y: clamp(((1 - Math.asinh(Math.tan(phi)) / Math.PI) / 2) * n) };
}

const unescaped = (url) => url.replaceAll("%7B", "{").replaceAll("%7D", "}");

function commands(selection, tileJson, view, state) {
  const { model, task } = selection;
  const { kind, format, path, tileJson: description } = sharedTiles(selection, state);
  const zoom = Math.min(Math.max(Math.round(view.zoom + (kind === "vector" ? 0 : 1)), tileJson.minzoom), tileJson.maxzoom);
  const tile = tileAt(view, zoom);
  const tilePath = path.replace("{z}", tile.z).replace("{x}", tile.x).replace("{y}", tile.y);
  const upload = uploadOptions(task, state);
  if (upload.format === "geojson" && task.type !== "bin_segment") delete upload.threshold;
  // Not the key itself: commands are pasted into chats and issues.
  const key = apiKey.get() ? `-H "X-Api-Key: $SATLAS_API_KEY" \\\n  ` : "";
  return {
    tile: `curl ${key}-o tile.${format} \\\n  '${absolute(tilePath)}'`,
    file: `curl ${key}--data-binary @image.tif \\\n  -H 'Content-Type: image/tiff' -o result.${upload.format} \\\n  '${absolute(predictPath(model.id, task.name, upload))}'`,
    tilejson: absolute(description),
    xyz: unescaped(absolute(path)),
  };
}

/** Copies text. Without HTTPS the page may not; then the text is selected for the user to copy. */
async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.lastChild.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.lastChild.textContent = "Press Ctrl+C";
  }
  setTimeout(() => (button.lastChild.textContent = "Copy"), 2000);
}

/** Prepares the section. */
export function listenToShare() {
  const button = byId("copy");
  button.replaceChildren(icon("copy"), "Copy");
  button.addEventListener("click", () => copy(byId("command"), button));
}

/** Writes the chosen command for what is shown. */
export function drawShare(selection, tileJson, view, state) {
  const kind = byId("command-kind").value;
  byId("command").textContent = commands(selection, tileJson, view, state)[kind];
  const { minzoom, maxzoom } = tileJson;
  const isVector = sharedTiles(selection, state).format === "mvt";
  const where = isVector ? "Layer › Add Vector Tile Layer" : "XYZ Tiles › New Connection";
  byId("command-note").textContent = `In QGIS: ${where}, with zooms ${minzoom} to ${maxzoom}; nearer, QGIS enlarges the tiles of zoom ${maxzoom}.`;
  byId("command-note").hidden = kind !== "xyz";
}
