/**
 * Converts an answer's `Content-Bbox` to the lon/lat corners that the map needs, from lon/lat, Web Mercator and WGS84 UTM: the
 * systems in which imagery of these sensors is distributed.
 */

const DEGREES = 180 / Math.PI;

/** WGS84 semi-major axis in metres, and flattening. */
const SEMI_MAJOR_M = 6378137;
const FLATTENING = 1 / 298.257223563;

const UTM_SCALE = 0.9996;
const UTM_FALSE_EASTING_M = 500000;
const UTM_FALSE_NORTHING_M = 10000000;

const webMercator = ([x, y]) => [(x / SEMI_MAJOR_M) * DEGREES, Math.atan(Math.sinh(y / SEMI_MAJOR_M)) * DEGREES];

/** Krüger's series to the third order of the third flattening: well below a millimetre inside a zone. */
function utm(zone, isSouth) {
  const n = FLATTENING / (2 - FLATTENING);
  const radius = (SEMI_MAJOR_M / (1 + n)) * (1 + n ** 2 / 4 + n ** 4 / 64);
  const beta = [n / 2 - (2 / 3) * n ** 2 + (37 / 96) * n ** 3, n ** 2 / 48 + n ** 3 / 15, (17 / 480) * n ** 3];
  const delta = [2 * n - (2 / 3) * n ** 2 - 2 * n ** 3, (7 / 3) * n ** 2 - (8 / 5) * n ** 3, (56 / 15) * n ** 3];
  const central = zone * 6 - 183;
  return ([easting, northing]) => {
    const xi0 = (northing - (isSouth ? UTM_FALSE_NORTHING_M : 0)) / (UTM_SCALE * radius);
    const eta0 = (easting - UTM_FALSE_EASTING_M) / (UTM_SCALE * radius);
    let xi = xi0;
    let eta = eta0;
    beta.forEach((coefficient, index) => {
      const k = 2 * (index + 1);
      xi -= coefficient * Math.sin(k * xi0) * Math.cosh(k * eta0);
      eta -= coefficient * Math.cos(k * xi0) * Math.sinh(k * eta0);
    });
    const conformal = Math.asin(Math.sin(xi) / Math.cosh(eta));
    const lat = delta.reduce((sum, coefficient, index) => sum + coefficient * Math.sin(2 * (index + 1) * conformal), conformal);
    return [central + Math.atan2(Math.sinh(eta), Math.cos(xi)) * DEGREES, lat * DEGREES];
  };
}

/** The function from coordinates of a CRS to lon/lat, or `null` for a CRS that this page cannot convert. */
export function toLonLat(crs) {
  const code = Number(/^EPSG:(\d+)$/i.exec(crs?.trim() ?? "")?.[1]);
  if (code === 4326) return (point) => point;
  if (code === 3857) return webMercator;
  const [series, zone] = [Math.floor(code / 100), code % 100];
  if ((series === 326 || series === 327) && zone >= 1 && zone <= 60) return utm(zone, series === 327);
  return null;
}

/** The corners of an answer, clockwise from the top left, or `null` if it has no bounds or its CRS cannot be converted. */
export function corners(headers) {
  const project = toLonLat(headers.get("Content-Crs"));
  const bbox = headers.get("Content-Bbox")?.split(",").map(Number);
  if (!project || bbox?.length !== 4 || !bbox.every(Number.isFinite)) return null;
  const [minX, minY, maxX, maxY] = bbox;
  return [[minX, maxY], [maxX, maxY], [maxX, minY], [minX, minY]].map(project);
}

/** `[west, south, east, north]` of lon/lat points, or `null` if there are none. */
export function boundsOf(points) {
  const bounds = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [lon, lat] of points) {
    bounds[0] = Math.min(bounds[0], lon);
    bounds[1] = Math.min(bounds[1], lat);
    bounds[2] = Math.max(bounds[2], lon);
    bounds[3] = Math.max(bounds[3], lat);
  }
  return Number.isFinite(bounds[0]) ? bounds : null;
}

/** Every position of a GeoJSON geometry. */
export function* positions(geometry) {
  if (!geometry) return;
  if (geometry.geometries) {
    for (const part of geometry.geometries) yield* positions(part);
    return;
  }
  const stack = [geometry.coordinates];
  while (stack.length > 0) {
    const top = stack.pop();
    if (typeof top[0] === "number") yield top;
    else stack.push(...top);
  }
}
