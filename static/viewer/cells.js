/** Cells that a search has found, on the map: outlined, filled the more the better they score, with the scores as text. */

import { positions, boundsOf } from "./projection.js";

const PREFIX = "similar";

/** So many of the best have a strong outline, and are in the list beside the map. */
export const BEST = 10;

const CASING = "#0b1220";
const COLOR = "#ffd54a";

const isBest = ["<=", ["get", "rank"], BEST];

const LAYERS = [
  { id: `${PREFIX}-fill`, type: "fill", paint: { "fill-color": COLOR, "fill-opacity": ["*", 0.3, ["get", "part"]], "fill-antialias": false } },
  { id: `${PREFIX}-casing`, type: "line", paint: { "line-color": CASING, "line-width": ["case", isBest, 4, 2.5], "line-opacity": 0.55 } },
  { id: `${PREFIX}-line`, type: "line", paint: { "line-color": COLOR, "line-width": ["case", isBest, 2, 1], "line-opacity": ["case", isBest, 1, 0.75] } },
  { id: `${PREFIX}-chosen`, type: "line", filter: ["==", ["get", "rank"], 0], paint: { "line-color": "#ffffff", "line-width": 4 } },
  {
    id: `${PREFIX}-score`,
    type: "symbol",
    layout: {
      "text-field": ["get", "score"],
      "text-font": ["sans-serif"],
      "text-size": 12,
      "symbol-sort-key": ["get", "rank"],
    },
    paint: { "text-color": "#ffffff", "text-halo-color": CASING, "text-halo-width": 1.5 },
  },
];

const nothing = { type: "FeatureCollection", features: [] };

/** How scores are shown: with as many digits as it takes to tell the best from the last. */
export function scoreWriter(cells) {
  const scores = cells.map(({ properties }) => properties.score);
  const spread = scores[0] - scores.at(-1);
  const digits = spread > 0 ? Math.min(Math.max(Math.ceil(-Math.log10(spread)) + 1, 2), 4) : 2;
  return (score) => score.toFixed(digits);
}

/** `[west, south, east, north]` of a cell. */
export const boundsOfCell = ({ geometry }) => boundsOf(positions(geometry));

/** Longitude and latitude of the middle of a cell. */
export function middleOf(cell) {
  const [west, south, east, north] = boundsOfCell(cell);
  const lon = (west + east) / 2;
  return [lon > 180 ? lon - 360 : lon, (south + north) / 2];
}

/** Whether a place lies in a cell; cells across the antimeridian reach beyond 180 degrees. */
export function holds(cell, [lon, lat]) {
  const [west, south, east, north] = boundsOfCell(cell);
  return [lon, lon + 360].some((turned) => west <= turned && turned <= east) && south <= lat && lat <= north;
}

/** The cells on the map. */
export class Cells {
  #cells = [];

  constructor(mapView) {
    this.map = mapView.map;
  }

  /** Shows cells, the best first, instead of those before. */
  draw(cells) {
    this.#cells = cells;
    if (!this.map.getSource(PREFIX)) {
      if (cells.length === 0) return;
      this.map.addSource(PREFIX, { type: "geojson", data: nothing });
      // Above results, below the dots of examples.
      for (const layer of LAYERS) this.map.addLayer({ ...layer, source: PREFIX }, "files");
    }
    const scores = cells.map(({ properties }) => properties.score);
    const [most, least] = [scores[0], scores.at(-1)];
    const write = scoreWriter(cells);
    const features = cells.map(({ geometry, properties: { score } }, index) => {
      const part = most > least ? (score - least) / (most - least) : 1;
      return { type: "Feature", geometry, properties: { rank: index + 1, part, score: write(score) } };
    });
    this.map.getSource(PREFIX).setData({ ...nothing, features });
    this.choose(undefined);
  }

  /** Marks a cell by its index in the list; none for `undefined`. */
  choose(index) {
    if (this.map.getLayer(`${PREFIX}-chosen`)) this.map.setFilter(`${PREFIX}-chosen`, ["==", ["get", "rank"], (index ?? -1) + 1]);
  }

  /** Moves the map so far that a cell is well in view. */
  goTo(index) {
    this.choose(index);
    const [west, south, east, north] = boundsOfCell(this.#cells[index]);
    const seen = this.map.getBounds();
    const isSeen = [[west, south], [east, north]].every((corner) => seen.contains(corner));
    if (!isSeen) this.map.easeTo({ center: [(west + east) / 2, (south + north) / 2], duration: 500 });
  }
}
