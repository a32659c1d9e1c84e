/** The map: imagery at the bottom, the result above it, results of uploaded files on top. */

import { AttributionControl, Map as MapLibre, NavigationControl, ScaleControl } from "../vendor/maplibre-gl/maplibre-gl.mjs";
import { featureFilters, featureLayers, featureOpacities } from "./layers.js";

/** MapLibre counts zooms for 512 px tiles; at 256 px, tile zoom = map zoom + 1. */
const TILE_SIZE_PX = 256;

/** Deepest zoom of the map; tiles beyond their own last zoom are enlarged. */
const MAX_ZOOM = 24;

/** Empty layers that mark where each group of layers ends, bottom to top. */
const GROUPS = ["imagery", "result", "files"];

const background = () => getComputedStyle(document.documentElement).getPropertyValue("--map").trim();

/** A MapLibre map with the three groups of layers. Fires `move` with the view, and `failed` with the map's own errors. */
export class MapView extends EventTarget {
  /** Sets of feature layers on the map: prefix to `{ task, key }`. */
  #features = new Map();

  /** The dots that clicks on the map set; while there are none, clicks open popups. */
  clicksFor = null;

  constructor(container, view) {
    super();
    this.map = new MapLibre({
      container,
      style: {
        version: 8,
        sources: {},
        layers: [
          { id: "ground", type: "background", paint: { "background-color": background() } },
          ...GROUPS.map((id) => ({ id, type: "background", layout: { visibility: "none" } })),
        ],
      },
      center: view ? [view.lon, view.lat] : [0, 20],
      zoom: view?.zoom ?? 1,
      maxZoom: MAX_ZOOM,
      maxPitch: 0,
      dragRotate: false,
      pitchWithRotate: false,
      attributionControl: false,
      // Fetching expired tiles again would only repeat what is on the screen.
      refreshExpiredTiles: false,
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.map.addControl(new NavigationControl({ showCompass: false }), "top-right");
    this.map.addControl(new ScaleControl({ maxWidth: 120 }), "bottom-right");
    this.map.addControl(new AttributionControl({ compact: true }), "bottom-right");
    this.map.on("moveend", () => this.dispatchEvent(new Event("move")));
    // Tile failures are counted where tiles are fetched; without a listener MapLibre would log them as well.
    this.map.on("error", ({ error, sourceId }) => {
      if (!sourceId) this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
      this.map.setPaintProperty("ground", "background-color", background()),
    );
    this.ready = new Promise((done) => this.map.once("load", done));
  }

  /** Zoom and centre. */
  get view() {
    const { lng: lon, lat } = this.map.getCenter().wrap();
    return { zoom: this.map.getZoom(), lat, lon };
  }

  /** Goes to a view without animation. */
  jumpTo({ zoom, lat, lon }) {
    this.map.jumpTo({ zoom, center: [lon, lat] });
  }

  /** Flies to bounds `[west, south, east, north]`, at least at `minZoom`, even if not all of them are then visible. */
  fitTo([west, south, east, north], { animate = true, minZoom = 0 } = {}) {
    const bounds = [[west, Math.max(south, -85)], [east, Math.min(north, 85)]];
    const { center, zoom } = this.map.cameraForBounds(bounds, { padding: this.#padding() });
    this.map.flyTo({ center, zoom: Math.max(zoom, minZoom), animate, duration: animate ? 1200 : 0 });
  }

  /** Free space around the bounds, plus the width of the panel of pixel results if it covers the map. */
  #padding() {
    const side = document.getElementById("pixels");
    const covered = side.hidden || side.offsetWidth > this.map.getContainer().offsetWidth / 2 ? 0 : side.offsetWidth;
    return { top: 24, bottom: 24, left: 24, right: 24 + covered };
  }

  #add(group, layer) {
    this.map.addLayer(layer, group);
  }

  /** Removes a source and its layers from the map. */
  remove(prefix) {
    for (const { id, source } of this.map.getStyle().layers) if (source === prefix) this.map.removeLayer(id);
    if (this.map.getSource(prefix)) this.map.removeSource(prefix);
    this.#features.delete(prefix);
  }

  #tiles(type, template, { bounds, minzoom, maxzoom, attribution }) {
    const size = type === "raster" ? { tileSize: TILE_SIZE_PX } : {};
    return { type, tiles: [template], minzoom, maxzoom, ...size, ...(bounds && { bounds }), ...(attribution && { attribution }) };
  }

  /** Shows the imagery of a source. */
  showImagery(template, tileJson, shown) {
    this.remove("imagery-tiles");
    this.map.addSource("imagery-tiles", this.#tiles("raster", template, tileJson));
    this.#add("imagery", { id: "imagery-tiles", type: "raster", source: "imagery-tiles", paint: { "raster-fade-duration": 150 } });
    this.setImageryShown(shown);
  }

  /** Shows or hides the imagery. */
  setImageryShown(shown) {
    if (this.map.getLayer("imagery-tiles"))
      this.map.setLayoutProperty("imagery-tiles", "visibility", shown ? "visible" : "none");
  }

  /** Shows image tiles as the result. */
  showMask(template, tileJson, opacity) {
    this.remove("result");
    this.map.addSource("result", this.#tiles("raster", template, tileJson));
    const paint = { "raster-opacity": opacity, "raster-fade-duration": 0, "raster-resampling": "nearest" };
    this.#add("result", { id: "result-mask", type: "raster", source: "result", paint });
  }

  /** Shows vector tiles as the result. */
  showFeatureTiles(template, tileJson, task, key, state) {
    this.remove("result");
    this.map.addSource("result", this.#tiles("vector", template, tileJson));
    const sourceLayer = tileJson.vector_layers?.[0]?.id ?? task.name;
    this.#addFeatures("result", "result", task, key, state, sourceLayer);
  }

  /** Shows GeoJSON, in the group `result` or `files`, under a prefix of its own. */
  showGeoJson(group, prefix, data, task, key, state) {
    this.remove(prefix);
    this.map.addSource(prefix, { type: "geojson", data });
    this.#addFeatures(group, prefix, task, key, state);
  }

  /** Shows an image whose corners are known. */
  showImage(prefix, url, coordinates, opacity) {
    this.remove(prefix);
    this.map.addSource(prefix, { type: "image", url, coordinates });
    const paint = { "raster-opacity": opacity, "raster-fade-duration": 0, "raster-resampling": "nearest" };
    this.#add("files", { id: `${prefix}-image`, type: "raster", source: prefix, paint });
  }

  #addFeatures(group, prefix, task, key, state, sourceLayer) {
    for (const layer of featureLayers(prefix, prefix, task, sourceLayer)) this.#add(group, layer);
    this.#features.set(prefix, { task, key });
    this.restyle(key, state);
  }

  /** Applies the opacity to all results, and threshold and hidden categories to those of the task `key`. */
  restyle(key, state) {
    for (const { id, type } of this.map.getStyle().layers)
      if (id === "result-mask" || (type === "raster" && id.endsWith("-image")))
        this.map.setPaintProperty(id, "raster-opacity", state.opacity);
    for (const [prefix, set] of this.#features) {
      for (const [suffix, property, value] of featureOpacities(set.task, state.opacity))
        this.map.setPaintProperty(`${prefix}-${suffix}`, property, value);
      if (set.key !== key) continue;
      for (const [suffix, filter] of featureFilters(set.task, state)) this.map.setFilter(`${prefix}-${suffix}`, filter);
    }
  }

  /** The features within a few pixels of a point, each with its task, best score first. */
  featuresAt({ x, y }) {
    const reach = 3;
    const layers = [...this.#features.keys()].flatMap((prefix) => [`${prefix}-fill`, `${prefix}-point`]);
    if (layers.length === 0) return [];
    const hits = this.map.queryRenderedFeatures([[x - reach, y - reach], [x + reach, y + reach]], { layers });
    return hits
      .map(({ properties, source }) => ({ properties, task: this.#features.get(source).task }))
      .sort((a, b) => (b.properties.score ?? 0) - (a.properties.score ?? 0));
  }
}
