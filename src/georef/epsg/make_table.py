"""Derives table.txt, the coordinate systems of the EPSG dataset, from the database of PROJ that pyproj ships.

    PROJ_NETWORK=OFF python src/georef/epsg/make_table.py        (pyproj; about three minutes)

One record a line, fields separated by blanks, the first field is the kind:

    U code metres                            unit of length
    A code degrees                           unit of angle
    P code degrees                           prime meridian, east of Greenwich
    E code a rf                              ellipsoid: semi-major axis in metres, inverse flattening (0: a sphere)
    G code ellipsoid meridian unit           geographic system; its shifts to WGS 84 follow, in the order in which PROJ prefers them
    S accuracy W S E N tx ty tz [rx ry rz s] shift: accuracy in metres (-1: not stated), area of use in degrees, metres, arc seconds and
                                             parts per million (position vector)
    D code geographic                        datum
    N name geographic                        name of a datum, lower case letters and digits only
    C code parameters                        map projection, as the parameters of a PROJ string; lengths in metres, angles in degrees
    R code geographic projection unit [axes] projected system; a projection without a code is written as `=parameters;…`
    K code code                              the system to use instead: of one with heights its horizontal part, of a deprecated one its only
                                             replacement, as in GDAL
"""

import os
import re
import sqlite3
import warnings

import numpy as np
import pyproj
from pyproj.crs import CRS, CoordinateOperation, ProjectedCRS
from pyproj.exceptions import CRSError
from pyproj.transformer import Transformer, TransformerGroup

warnings.simplefilter("ignore")
HERE = os.path.dirname(os.path.abspath(__file__))
DATABASE = sqlite3.connect(os.path.join(pyproj.datadir.get_data_dir(), "proj.db"))
QUERY = DATABASE.execute
GEODETIC_WORDS = re.compile(r"\+(datum|ellps|a|b|rf|R|pm|units|to_meter|nadgrids|wktext|no_defs|type|axis)(=|$)")


def number(value, digits=15):
    return f"{float(value):.{digits}g}"


def units(kind):
    rows = QUERY("select cast(code as int), conv_factor from unit_of_measure where auth_name='EPSG' and type=? and conv_factor > 0 order by 1", (kind,))
    return dict(rows.fetchall())


LENGTHS = units("length")
# In the database, packed degrees, minutes and seconds count as degrees, which they are not.
ANGLES = {code: np.degrees(radians) for code, radians in units("angle").items() if code not in (9110, 9111, 9107, 9108)}


def projection_words(text):
    words = [word[1:] for word in text.split() if not GEODETIC_WORDS.match(word)]
    # Web Mercator, which takes longitude and latitude on the ellipsoid for those on a sphere, is written with a grid that shifts nothing.
    return ["proj=webmerc"] + words[1:] if "+nadgrids=@null" in text else words


def proj_string(crs):
    """`None` for the few systems whose projection PROJ does not have."""
    try:
        return crs.to_proj4() or None
    except CRSError:
        return None


def words_of_conversion(code):
    text = proj_string(ProjectedCRS(CoordinateOperation.from_authority("EPSG", code), geodetic_crs=CRS("EPSG:4326")))
    return projection_words(text) if text and "+proj=" in text else None


def helmert_fit(transformer, source_axes, area):
    """The seven parameters that repeat a transformation in its area, and the largest difference in metres."""
    west, south, east, north = area
    east += 360 if east < west else 0
    lon, lat = np.meshgrid(np.linspace(west, east, 7), np.linspace(max(south, -89), min(north, 89), 7))
    lon, lat = lon.ravel(), lat.ravel()
    # The geocentric frame of the source is centred on Greenwich, whatever the prime meridian.
    meridian, degrees, ellipsoid = source_axes
    to_lon, to_lat = transformer.transform((lon - meridian) / degrees, lat / degrees)

    def geocentric(ellipsoid, lon, lat):
        cart = Transformer.from_pipeline(f"+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart {ellipsoid}")
        return np.array(cart.transform(lon, lat, np.zeros_like(lon)))

    source, target = geocentric(ellipsoid, lon, lat), geocentric("+ellps=WGS84", np.array(to_lon), np.array(to_lat))
    # Heights are free: only the parts of the difference along east and north are fitted.
    lam, phi = np.radians(to_lon), np.radians(to_lat)
    east_axis = np.array([-np.sin(lam), np.cos(lam), 0 * lam])
    north_axis = np.array([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)])
    x, y, z = source
    zero, one = np.zeros_like(x), np.ones_like(x)
    # Position vector: d = t + (-rz y + ry z, rz x - rx z, -ry x + rx y) + s (x, y, z)
    columns = [(one, zero, zero), (zero, one, zero), (zero, zero, one), (zero, -z, y), (z, zero, -x), (-y, x, zero), (x, y, z)]
    delta = target - source

    def fit(columns):
        rows = np.array([[sum(a * b for a, b in zip(axis, column)) for column in columns] for axis in (east_axis, north_axis)])
        matrix = rows.transpose(0, 2, 1).reshape(-1, len(columns))
        wanted = np.concatenate([(axis * delta).sum(0) for axis in (east_axis, north_axis)])
        scale = np.abs(matrix).max(0)
        solution = np.linalg.lstsq(matrix / scale, wanted, rcond=1e-13)[0] / scale
        return solution, np.abs(matrix @ solution - wanted).max()

    three, error = fit(columns[:3])
    if error < 1e-3:
        # Less than a millimetre is noise.
        return np.where(np.abs(three) < 1e-3, 0.0, np.round(three, 4)), error
    seven, error = fit(columns)
    return seven * np.array([1, 1, 1, 206264.806247, 206264.806247, 206264.806247, 1e6]), error


def stated_helmert(definition):
    """The parameters of a definition that has one plain Helmert step, as a position vector."""
    steps = [step for step in definition.split("step") if re.search(r"proj=(helmert|molobadekas|geogoffset)", step)]
    if len(steps) != 1 or "molobadekas" in steps[0] or "geogoffset" in steps[0] or "t_epoch" in steps[0] or "inv" in steps[0]:
        return None
    found = dict(word.split("=") for word in steps[0].split() if "=" in word)
    value = lambda name: float(found.get(name, 0))
    sign = -1 if found.get("convention") == "coordinate_frame" else 1
    shift, rotation = [value(n) for n in "xyz"], [sign * value(n) for n in ("rx", "ry", "rz")]
    return shift + rotation + [value("s")] if any(rotation) or value("s") else shift


def shifts(code, source_axes):
    try:
        group = TransformerGroup(f"EPSG:{code}", "OGC:CRS84", always_xy=True)
    except IndexError:  # there is no operation at all
        return
    for transformer in group.transformers:
        if "Ballpark" in transformer.description or transformer.area_of_use is None:
            continue
        area = transformer.area_of_use.west, transformer.area_of_use.south, transformer.area_of_use.east, transformer.area_of_use.north
        values = stated_helmert(transformer.definition)
        if values is None:
            values, error = helmert_fit(transformer, source_axes, area)
            if not error < 0.1:
                print("no Helmert shift repeats", code, transformer.description, error)
                continue
        values = [number(value + 0.0, 10) for value in values]
        yield " ".join(["S", number(transformer.accuracy), *[number(edge, 6) for edge in area], *values])


def main():
    lines = []
    add = lambda *fields: lines.append(" ".join(str(field) for field in fields))
    for code, metres in LENGTHS.items():
        add("U", code, number(metres))
    for code, degrees in ANGLES.items():
        add("A", code, number(degrees, 13))
    meridians = {}
    for code, longitude, unit in QUERY("select cast(code as int), longitude, cast(uom_code as int) from prime_meridian where auth_name='EPSG' order by 1").fetchall():
        if unit == 9110:  # degrees.minutesseconds
            magnitude = abs(longitude) + 1e-12
            minutes = (magnitude % 1) * 100
            longitude = np.copysign(int(magnitude) + int(minutes) / 60 + (minutes % 1) * 100 / 3600, longitude)
        else:
            longitude *= ANGLES[unit]
        meridians[code] = round(longitude, 11)
        add("P", code, number(meridians[code], 13))
    ellipsoids = {}
    rows = QUERY("select cast(code as int), semi_major_axis, cast(uom_code as int), inv_flattening, semi_minor_axis from ellipsoid where auth_name='EPSG' order by 1").fetchall()
    for code, a, unit, flattening, b in rows:
        metres = LENGTHS[unit]
        inverse = flattening or (a / (a - b) if b and a != b else 0)
        ellipsoids[code] = (a * metres, inverse)
        add("E", code, number(a * metres), number(inverse))

    geographic, of_datum = {}, {}
    rows = QUERY(
        "select cast(g.code as int), cast(g.datum_code as int), cast(d.ellipsoid_code as int), cast(d.prime_meridian_code as int), cast(a.uom_code as int) from geodetic_crs g "
        "join geodetic_datum d on d.auth_name='EPSG' and d.code=g.datum_code "
        "join axis a on a.coordinate_system_auth_name=g.coordinate_system_auth_name and a.coordinate_system_code=g.coordinate_system_code and a.coordinate_system_order=1 "
        "where g.auth_name='EPSG' and g.type='geographic 2D' order by g.deprecated, 1").fetchall()
    for code, datum, ellipsoid, meridian, unit in rows:
        degrees = ANGLES.get(unit, 1.0)
        geographic[code] = (ellipsoid, meridian, unit)
        of_datum.setdefault(datum, code)
        add("G", code, ellipsoid, meridian, unit if unit in ANGLES else 9102)
        a, inverse = ellipsoids[ellipsoid]
        lines.extend(shifts(code, (meridians[meridian], degrees, f"+a={a} " + (f"+rf={inverse}" if inverse else f"+b={a}"))))
    for datum, code in sorted(of_datum.items()):
        add("D", datum, code)
    names = {}
    plain = lambda name: re.sub(r"[^a-z0-9]", "", re.sub(r"^D_", "", name).lower())
    for datum, name in QUERY("select cast(code as int), name from geodetic_datum where auth_name='EPSG' order by deprecated, 1").fetchall():
        names.setdefault(plain(name), of_datum.get(datum))
    for datum, name in QUERY("select cast(code as int), alt_name from alias_name where table_name='geodetic_datum' and auth_name='EPSG' and source in ('ESRI', 'EPSG_OLD', 'GeoTIFF', 'EPSG') order by source desc, 1").fetchall():
        names.setdefault(plain(name), of_datum.get(datum))
    for name, code in sorted(names.items()):
        if code and name:
            add("N", name, code)

    conversions = {}
    for (code,) in QUERY("select cast(code as int) from conversion_table where auth_name='EPSG' order by 1").fetchall():
        words = words_of_conversion(code)
        if words:
            conversions[code] = words
            add("C", code, *words)
    rows = QUERY(
        "select cast(p.code as int), cast(p.geodetic_crs_code as int), cast(p.conversion_code as int), cast(a.uom_code as int) from projected_crs p "
        "join axis a on a.coordinate_system_auth_name=p.coordinate_system_auth_name and a.coordinate_system_code=p.coordinate_system_code and a.coordinate_system_order=1 "
        "where p.auth_name='EPSG' order by 1").fetchall()
    left_out = []
    for code, base, conversion, unit in rows:
        text = proj_string(CRS.from_epsg(code))
        if not text or base not in geographic:
            left_out.append(code)
            continue
        words = projection_words(text)
        # PROJ strings lack the axes of some systems that count southwards and westwards.
        directions = "".join(axis.direction[0] for axis in CRS.from_epsg(code).axis_info[:2])
        axes = re.findall(r"\+axis=(\w+)", text) or ([directions + "u"] if directions in ("sw", "ws") else [])
        ellipsoid = [word[1:] for word in text.split() if re.match(r"\+(R|b)=", word)] if ellipsoids[geographic[base][0]][1] else []
        if words == conversions.get(conversion) and not ellipsoid:
            add("R", code, base, conversion, unit, *axes)
        else:
            add("R", code, base, "=" + ";".join(words), unit, *axes)
    print("projected systems without a PROJ string:", left_out)
    rows = QUERY("select cast(code as int), cast(horiz_crs_code as int) from compound_crs where auth_name='EPSG' and horiz_crs_auth_name='EPSG' order by 1").fetchall()
    for code, horizontal in rows:
        add("K", code, horizontal)
    for code, datum in QUERY("select cast(code as int), cast(datum_code as int) from geodetic_crs where auth_name='EPSG' and type='geographic 3D' order by 1").fetchall():
        if datum in of_datum:
            add("K", code, of_datum[datum])
    rows = QUERY(
        "select cast(deprecated_code as int), cast(min(replacement_code) as int) from deprecation where table_name in ('projected_crs', 'geodetic_crs') "
        "and deprecated_auth_name='EPSG' and replacement_auth_name='EPSG' group by 1 having count(*) = 1 order by 1").fetchall()
    for code, replacement in rows:
        add("K", code, replacement)
    version = QUERY("select value from metadata where key='EPSG.VERSION'").fetchone()[0]
    with open(os.path.join(HERE, "table.txt"), "w") as file:
        file.write(f"# EPSG dataset {version}, from PROJ {pyproj.proj_version_str}; made by make_table.py. Licence: README.md.\n")
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
