/**
 * Places on the map, such as labels: drawn as dots in the colours of their classes, set by a click, moved by a drag, removed by a click on
 * them. Places that the server suggests are hollow dots until they are labelled.
 */

/** Radius of a dot in pixels, and how near a click must be to mean it. */
const RADIUS_PX = 6;
const REACH_PX = 9;

/** MapLibre's world is so many pixels wide at zoom 0. */
const WORLD_PX = 512;

/** The events of a drag by mouse and by finger. */
const DRAGS = [["mousedown", "mousemove", "mouseup"], ["touchstart", "touchmove", "touchend"]];

/** Layers for the source of a name, under the ids `name-areas`, `-edges`, `-dots`. */
const layersOf = (source) => [
  { source, id: `${source}-areas`, type: "fill", filter: ["==", ["geometry-type"], "Polygon"], paint: { "fill-color": ["get", "color"], "fill-opacity": 0.5 } },
  { source, id: `${source}-edges`, type: "line", filter: ["==", ["geometry-type"], "Polygon"], paint: { "line-color": ["get", "color"], "line-width": 2 } },
  {
    source,
    id: `${source}-dots`,
    type: "circle",
    filter: ["==", ["geometry-type"], "Point"],
    paint: {
      "circle-color": ["get", "color"],
      "circle-radius": RADIUS_PX,
      "circle-stroke-color": "#ffffff",
      "circle-stroke-width": 2,
      "circle-opacity": ["case", ["get", "isSuggested"], 0.25, 1],
    },
  },
];

/** The filling of a suggested place, which has no class yet. */
const NO_COLOR = "#0b1220";

const isAt = ([lon, lat], { geometry: { type, coordinates } }) => type === "Point" && coordinates[0] === lon && coordinates[1] === lat;

const rounded = (degrees) => Number(degrees.toFixed(6));

const positionOf = ({ lng, lat }) => [lng, lat].map(rounded);

/**
 * The dots of the map's source `name`. While they are shown, clicks on the map are theirs: `add` gets `[lon, lat]` and whether the shift key
 * was held, `move` an index and a position, `remove` an index.
 */
export class Dots {
  #labels = [];
  #suggested = [];
  #isDragging = false;

  constructor(mapView, name, { add, move, remove }) {
    Object.assign(this, { map: mapView.map, mapView, name, add, move, remove });
    this.map.on("click", ({ point, lngLat, originalEvent }) => this.isShown && this.#press(point, lngLat, originalEvent.shiftKey));
    for (const [down, moved, up] of DRAGS)
      this.map.on(down, (event) => this.isShown && this.#grab(event, moved, up));
    this.map.on("mousemove", ({ point }) => {
      if (this.isShown && !this.#isDragging) this.map.getCanvas().style.cursor = this.#at(point) === undefined ? "crosshair" : "pointer";
    });
  }

  /** Whether these dots are on the map and take its clicks. */
  get isShown() {
    return this.mapView.clicksFor === this;
  }

  /** Shows the dots, or hides them and leaves the clicks to others. */
  setShown(shown) {
    this.mapView.clicksFor = shown ? this : null;
    this.map.getCanvas().style.cursor = shown ? "crosshair" : "";
    // Two dots set quickly one after the other are no wish to see the map nearer.
    this.map.doubleClickZoom[shown ? "disable" : "enable"]();
    // With the shift key, a press on the map is no corner of a box either.
    this.map.boxZoom[shown ? "disable" : "enable"]();
    const layers = layersOf(this.name);
    if (shown && !this.map.getSource(this.name)) {
      this.map.addSource(this.name, { type: "geojson", data: this.#data() });
      for (const layer of layers) this.map.addLayer(layer);
    }
    for (const { id } of layers) if (this.map.getLayer(id)) this.map.setLayoutProperty(id, "visibility", shown ? "visible" : "none");
  }

  /** Draws labels, `{ geometry, color }` each. */
  draw(labels) {
    this.#labels = labels;
    this.map.getSource(this.name)?.setData(this.#data());
  }

  /** Shows places `[lon, lat]` to label next, instead of those before. */
  suggest(places) {
    this.#suggested = places.map((place) => place.map(rounded));
    this.draw(this.#labels);
  }

  /** Suggested places that have no label yet. */
  get #open() {
    return this.#suggested.filter((place) => !this.#labels.some((label) => isAt(place, label)));
  }

  #data(labels = this.#labels) {
    const feature = (geometry, properties) => ({ type: "Feature", geometry, properties });
    const open = this.#open.map((coordinates) => feature({ type: "Point", coordinates }, { color: NO_COLOR, isSuggested: true }));
    const set = labels.map(({ geometry, color }, index) => feature(geometry, { color, index, isSuggested: false }));
    return { type: "FeatureCollection", features: [...open, ...set] };
  }

  /** Sets or removes a label at the centre of the map, as a click there would. */
  pressCentre(isShifted = false) {
    const centre = this.map.getCenter();
    this.#press(this.map.project(centre), centre, isShifted);
  }

  #press(point, lngLat, isShifted) {
    const index = this.#at(point);
    if (index !== undefined) return this.remove(index);
    const open = this.#open;
    this.add(open[this.#nearest(point, open)] ?? positionOf(lngLat.wrap()), isShifted);
  }

  /** The index of the label at a point of the screen: the nearest dot, else an area. */
  #at(point) {
    const places = this.#labels.map(({ geometry }) => (geometry.type === "Point" ? geometry.coordinates : null));
    return this.#nearest(point, places) ?? this.map.queryRenderedFeatures(point, { layers: [`${this.name}-areas`] })[0]?.properties.index;
  }

  /** The index of the place that is nearest to a point of the screen and within reach. */
  #nearest(point, places) {
    const width = WORLD_PX * 2 ** this.map.getZoom();
    let [nearest, reach] = [undefined, REACH_PX];
    for (const [index, place] of places.entries()) {
      if (!place) continue;
      const { x, y } = this.map.project(place.slice(0, 2));
      // The world repeats itself to the left and the right.
      const across = x - point.x - width * Math.round((x - point.x) / width);
      const distance = Math.hypot(across, y - point.y);
      if (distance <= reach) [nearest, reach] = [index, distance];
    }
    return nearest;
  }

  /** Follows a dot that is dragged until it is let go. A press without movement is a click, which the map reports by itself. */
  #grab(event, moved, up) {
    const start = event.point;
    const index = this.#at(start);
    const label = this.#labels[index];
    if (label?.geometry.type !== "Point") return;
    // The map would move with it.
    event.preventDefault();
    let target = null;
    const follow = ({ lngLat, point, originalEvent }) => {
      // Let go outside the page.
      if (originalEvent.buttons === 0) return end();
      if (!target && Math.hypot(point.x - start.x, point.y - start.y) < REACH_PX / 2) return;
      target = positionOf(lngLat.wrap());
      const there = { ...label, geometry: { type: "Point", coordinates: target } };
      this.map.getSource(this.name).setData(this.#data(this.#labels.with(index, there)));
    };
    const end = () => {
      this.map.off(moved, follow);
      this.map.off(up, end);
      this.#isDragging = false;
      if (target) this.move(index, target);
    };
    this.#isDragging = true;
    this.map.getCanvas().style.cursor = "grabbing";
    this.map.on(moved, follow);
    this.map.on(up, end);
  }
}
