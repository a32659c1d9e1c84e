/** Files with labels: GeoJSON points and polygons, each with a property that names its class. */

/** The property of a feature that holds its class, as in the server's default. */
export const CLASS = "class";

const isPosition = (value) => Array.isArray(value) && value.length >= 2 && value.slice(0, 2).every(Number.isFinite);

const isPolygon = (rings) => Array.isArray(rings) && rings.length > 0 && rings.every((ring) => Array.isArray(ring) && ring.length >= 4 && ring.every(isPosition));

/** The places of a geometry, one each; `null` if it is none that can be labelled. */
function placesOf({ type, coordinates } = {}) {
  const all = (one, check, list) => (Array.isArray(list) && list.every(check) ? list.map((each) => ({ type: one, coordinates: each })) : null);
  switch (type) {
    case "Point":
      return all("Point", isPosition, [coordinates]);
    case "MultiPoint":
      return all("Point", isPosition, coordinates);
    case "Polygon":
      return all("Polygon", isPolygon, [coordinates]);
    case "MultiPolygon":
      return all("Polygon", isPolygon, coordinates);
    default:
      return null;
  }
}

/** The features of a file with labels as `{ name, places, color }`, where `color` is what the property of that name says. Throws an `Error` that says what was found and what is needed. */
export function readLabelFile(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("The file is no JSON; a GeoJSON FeatureCollection is needed.");
  }
  if (file?.type !== "FeatureCollection" || !Array.isArray(file.features))
    throw new Error(`The file is ${file?.type ?? "something else"}; a GeoJSON FeatureCollection is needed.`);
  return file.features.map((feature, index) => {
    const places = placesOf(feature?.geometry ?? undefined);
    if (!places) throw new Error(`Feature ${index} has the geometry ${feature?.geometry?.type ?? "none"}; a valid point or polygon is needed.`);
    const value = feature.properties?.[CLASS];
    if (!["string", "number", "boolean"].includes(typeof value)) {
      const found = Object.keys(feature.properties ?? {}).slice(0, 10).join(", ");
      throw new Error(`Feature ${index} has no “${CLASS}” with its class among its properties (${found || "none"}).`);
    }
    return { name: String(value).trim(), places, color: feature.properties.color };
  });
}
