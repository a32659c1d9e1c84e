/**
 * Classification on the map: one footprint a tile, coloured by its category. The map has no tiled GeoJSON, so the tiles in
 * view are asked for here and shown together.
 */

/** Most tiles asked for at once; a coarser zoom is used where the view holds more. */
const MOST_TILES = 32;

const tileX = (lon, zoom) => Math.floor(((lon + 180) / 360) * 2 ** zoom);

const tileY = (lat, zoom) => {
  const bounded = Math.min(Math.max(lat, -85.05), 85.05) * (Math.PI / 180);
  return Math.floor(((1 - Math.asinh(Math.tan(bounded)) / Math.PI) / 2) * 2 ** zoom);
};

/** The tiles of a zoom that a view `[west, south, east, north]` touches. */
function covering([west, south, east, north], zoom) {
  const tiles = [];
  const last = 2 ** zoom - 1;
  for (let y = Math.max(tileY(north, zoom), 0); y <= Math.min(tileY(south, zoom), last); y += 1)
    for (let x = Math.max(tileX(west, zoom), 0); x <= Math.min(tileX(east, zoom), last); x += 1) tiles.push([zoom, x, y]);
  return tiles;
}

/** The footprints of one task, kept up to date with the view until stopped. */
export class Footprints {
  #controller = new AbortController();
  #known = new Map();

  constructor(traffic, template, tileJson, show) {
    this.traffic = traffic;
    this.template = template;
    this.tileJson = tileJson;
    this.show = show;
  }

  /** Ends all requests. */
  stop() {
    this.#controller.abort();
  }

  /** Asks for the tiles of a view at a map zoom, and shows all footprints known of it. */
  async update(mapZoom, [west, south, east, north]) {
    const { minzoom, maxzoom, bounds = [-180, -85, 180, 85] } = this.tileJson;
    if (mapZoom + 1 < minzoom) return;
    const seen = [Math.max(west, bounds[0]), Math.max(south, bounds[1]), Math.min(east, bounds[2]), Math.min(north, bounds[3])];
    if (seen[0] >= seen[2] || seen[1] >= seen[3]) return;
    let zoom = Math.min(Math.round(mapZoom), maxzoom);
    while (zoom > minzoom && covering(seen, zoom).length > MOST_TILES) zoom -= 1;
    const tiles = covering(seen, Math.max(zoom, minzoom)).slice(0, MOST_TILES);
    await Promise.allSettled(tiles.map((tile) => this.#load(tile)));
    if (!this.#controller.signal.aborted)
      this.show({ type: "FeatureCollection", features: tiles.flatMap((tile) => this.#known.get(tile.join("/")) ?? []) });
  }

  async #load([z, x, y]) {
    const key = `${z}/${x}/${y}`;
    if (this.#known.has(key)) return;
    const path = this.template.replace("{z}", z).replace("{x}", x).replace("{y}", y);
    const response = await this.traffic.fetch("result", path, this.#controller.signal);
    this.#known.set(key, (await response.json()).features);
  }
}
