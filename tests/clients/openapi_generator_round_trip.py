"""The round trip of a data scientist with openapi-generator's Python client: BASE, KEYED_BASE, KEY and a GeoTIFF are the arguments."""

import io
import sys
import time

import numpy as np
import satlas_client as satlas
from satlas_client.exceptions import NotFoundException, UnauthorizedException

# Takes several captures.
PAIR_MODEL = "Sentinel2_Resnet50_MI_RGB"

base, keyed_base, key, raster = sys.argv[1:]
api = satlas.ApiClient(satlas.Configuration(host=base))
models, sources = satlas.ModelsApi(api), satlas.SourcesApi(api)
tiles, predictions, jobs = satlas.TilesApi(api), satlas.PredictApi(api), satlas.JobsApi(api)

demo = {model.id for model in models.list_models().models if model.origin == satlas.ModelOrigin.DEMO}
assert demo == {"world", "trees"}, demo

# Tiles in every form, and their description.
png = tiles.get_tile("world", "water", 3, 4, 3, satlas.TileFormat.PNG, source="world", tilesize=satlas.TileSize.NUMBER_512)
assert png.startswith(b"\x89PNG"), png[:8]
mvt = tiles.get_tile("trees", "tree_crown", 20, 202509, 377406, satlas.TileFormat.MVT, source="trees")
assert len(mvt) > 100, mvt
text = tiles.get_tile("trees", "tree_crown", 20, 202509, 377406, satlas.TileFormat.GEOJSON, source="trees")
collection = satlas.FeatureCollection.from_json(text.decode())
assert collection is not None and collection.features[0].properties.category == "tree"
assert isinstance(collection.features[0].geometry.actual_instance, satlas.Polygon)
tilejson = tiles.get_tilejson("world", "water", source="world", resampling=satlas.Resampling.NEAREST)
assert tilejson.minzoom == 1 and "{z}/{x}/{y}.png" in tilejson.tiles[0], tilejson
assert sources.get_imagery_tile("world", 3, 4, 3).startswith(b"\x89PNG")

# A GeoTIFF in; objects, arrays and embeddings out.
image = open(raster, "rb").read()
found = satlas.Detections.from_json(predictions.predict("trees", "tree_crown", image, format=satlas.PredictFormat.JSON).decode())
assert found is not None and found.categories[0] == "tree" and len(found.boxes) == len(found.scores) > 10, found
water = np.load(io.BytesIO(predictions.predict("world", "water", image, format=satlas.PredictFormat.NPY)))
assert water.ndim == 3 and water.dtype == np.float32, water.shape
vector = satlas.JsonPrediction.from_json(predictions.predict("trees", "embedding", image, pool=satlas.Pool.MAX, format=satlas.PredictFormat.JSON).decode())
assert isinstance(vector.actual_instance, satlas.Embedding) and vector.actual_instance.pool == satlas.Pool.MAX

# Two captures, for a model that takes several; new heads on a model.
two = predictions.predict(PAIR_MODEL, "embedding", ("june.tif", image), image_2=("july.tif", image), format=satlas.PredictFormat.NPY)
assert np.load(io.BytesIO(two)).shape == (2048,)
head = satlas.ManifestHead(task="cover", type=satlas.TaskType.SEGMENT, categories=["land", "water"])
assert models.create_model(satlas.Manifest(id="og-python", base="world", seed=7, heads=[head])).tasks[0].name == "cover"
models.delete_model("og-python")

# A source by upload.
source = sources.create_source(image, id="og-python", title="Crowns")
assert source.sample_type == satlas.SampleType.UINT8 and sources.get_source("og-python").title == "Crowns"
sources.delete_source("og-python")

# A job, from 202 to its result.
submitted = predictions.predict_with_http_info("trees", "tree_crown", image, prefer="respond-async", format=satlas.PredictFormat.JSON)
assert submitted.status_code == 202 and isinstance(submitted.data, satlas.Job), submitted
job: satlas.Job = submitted.data
while job.state in (satlas.JobState.QUEUED, satlas.JobState.RUNNING):
    time.sleep(0.1)
    job = jobs.get_job(job.id)
assert job.state == satlas.JobState.DONE and job.started is not None, job
assert satlas.Detections.from_json(jobs.get_job_result(job.id).decode()) == found

# Problems are typed errors.
try:
    models.get_model("word")
except NotFoundException as error:
    assert isinstance(error.data, satlas.Problem) and error.data.code == satlas.ProblemCode.NOT_FOUND, error
else:
    raise AssertionError("there is no model named word")

# Both kinds of API key, and none.
for credentials in ({"access_token": key}, {"api_key": {"api_key": key}}):
    keyed = satlas.ApiClient(satlas.Configuration(host=keyed_base, **credentials))
    assert satlas.ModelsApi(keyed).get_model("world").weights.kind == satlas.WeightsKind.DEMO
try:
    satlas.ModelsApi(satlas.ApiClient(satlas.Configuration(host=keyed_base))).get_model("world")
except UnauthorizedException as error:
    assert error.data.code == satlas.ProblemCode.UNAUTHORIZED, error
else:
    raise AssertionError("the server needs a key")
