"""The round trip of a data scientist with openapi-python-client: BASE, KEYED_BASE, KEY and a GeoTIFF are the arguments."""

import io
import json
import sys
import time
from typing import TypeVar

import httpx
import numpy as np
from satlas import AuthenticatedClient
from satlas.api.jobs import get_job, get_job_result
from satlas.api.models import create_model, delete_model, fit_chips, get_model, list_models
from satlas.api.predict import predict
from satlas.api.sources import create_source, delete_source, get_imagery_tile, get_source
from satlas.api.tiles import get_tile, get_tilejson
from satlas.models import (
    ChipFit,
    ChipFitForm,
    Detections,
    Embedding,
    FeatureCollection,
    FitType,
    Job,
    JobState,
    Manifest,
    ManifestHead,
    Model,
    ModelList,
    ModelOrigin,
    Pool,
    PredictFormat,
    Problem,
    ProblemCode,
    RasterForm,
    SampleType,
    Source,
    SourceForm,
    TaskType,
    TileFormat,
    TileJson,
    TileSize,
)
from satlas.types import File

# Takes several captures.
PAIR_MODEL = "Sentinel2_Resnet50_MI_RGB"

T = TypeVar("T")


def wanted(kind: type[T], answer: object) -> T:
    """The answer, if it is of the wanted kind and not a problem."""
    assert isinstance(answer, kind), answer
    return answer


def content(answer: object) -> bytes:
    """The bytes of an answer that is a file."""
    return wanted(File, answer).payload.read()


base, keyed_base, key, raster = sys.argv[1:]
client = AuthenticatedClient(base_url=base, token="the server needs none", timeout=httpx.Timeout(120))

demo = {model.id for model in wanted(ModelList, list_models.sync(client=client)).models if model.origin == ModelOrigin.DEMO}
assert demo == {"world", "trees"}, demo

# Tiles in every form, and their description.
png = content(get_tile.sync("world", "water", 3, 4, 3, TileFormat.PNG, client=client, source="world", tilesize=TileSize.VALUE_512))
assert png.startswith(b"\x89PNG"), png[:8]
crowns = ("trees", "tree_crown", 20, 202509, 377406)
assert len(content(get_tile.sync(*crowns, TileFormat.MVT, client=client, source="trees"))) > 100
text = content(get_tile.sync(*crowns, TileFormat.GEOJSON, client=client, source="trees"))
assert FeatureCollection.from_dict(json.loads(text)).features[0].properties.category == "tree"
tilejson = wanted(TileJson, get_tilejson.sync("world", "water", client=client, source="world"))
assert tilejson.minzoom == 1 and "{z}/{x}/{y}.png" in tilejson.tiles[0], tilejson
assert content(get_imagery_tile.sync("world", 3, 4, 3, client=client)).startswith(b"\x89PNG")

# A GeoTIFF in, as the body; objects, arrays and embeddings out.
image = open(raster, "rb").read()


def upload() -> File:
    """The raster, to be read once."""
    return File(io.BytesIO(image), file_name="trees.tif", mime_type="image/tiff")


answer = content(predict.sync("trees", "tree_crown", client=client, body=upload(), format_=PredictFormat.JSON))
found = Detections.from_dict(json.loads(answer))
assert found.categories[0] == "tree" and len(found.boxes) == len(found.scores) > 10, found
water = np.load(io.BytesIO(content(predict.sync("world", "water", client=client, body=upload(), format_=PredictFormat.NPY))))
assert water.ndim == 3 and water.dtype == np.float32, water.shape
answer = content(predict.sync("trees", "embedding", client=client, body=upload(), pool=Pool.MAX, format_=PredictFormat.JSON))
assert Embedding.from_dict(json.loads(answer)).pool == Pool.MAX

# Two captures, for a model that takes several; new heads on a model.
form = RasterForm(image=upload(), image_2=upload())
two = np.load(io.BytesIO(content(predict.sync(PAIR_MODEL, "embedding", client=client, body=form, format_=PredictFormat.NPY))))
assert two.shape == (2048,), two.shape
head = ManifestHead(task="cover", type_=TaskType.SEGMENT, categories=["land", "water"])
manifest = Manifest(id="opc", base="world", seed=7, heads=[head])
assert wanted(Model, create_model.sync(client=client, body=manifest)).tasks[0].name == "cover"
delete_model.sync_detailed("opc", client=client)

# A source by upload.
source = wanted(Source, create_source.sync(client=client, body=SourceForm(image=upload()), id="opc", title="Crowns"))
assert source.sample_type == SampleType.UINT8
assert wanted(Source, get_source.sync("opc", client=client)).title == "Crowns"
delete_source.sync_detailed("opc", client=client)

# A job, from 202 to its result.
submitted = predict.sync_detailed("trees", "tree_crown", client=client, body=upload(), prefer="respond-async", format_=PredictFormat.JSON)
assert submitted.status_code == 202, submitted


def done(job: Job) -> Job:
    """The job after it has ended well."""
    while job.state in (JobState.QUEUED, JobState.RUNNING):
        time.sleep(0.1)
        job = wanted(Job, get_job.sync(job.id, client=client))
    assert job.state == JobState.DONE, job
    return job


job = done(wanted(Job, submitted.parsed))
assert Detections.from_dict(json.loads(content(get_job_result.sync(job.id, client=client)))) == found

# A head fitted to chips.
chips = io.BytesIO()
np.save(chips, np.random.default_rng(0).integers(0, 255, (8, 3, 64, 64), dtype=np.uint8))
chips.seek(0)
fit = ChipFit(id="opc-chips", type_=FitType.CLASSIFICATION, labels=["a", "b"] * 4)
done(wanted(Job, fit_chips.sync("world", client=client, body=ChipFitForm(fit=fit, chips=File(chips, file_name="chips.npy")))))
assert wanted(Model, get_model.sync("opc-chips", client=client)).tasks[0].categories == ["a", "b"]
delete_model.sync_detailed("opc-chips", client=client)

# Problems are typed.
assert wanted(Problem, get_model.sync("word", client=client)).code == ProblemCode.NOT_FOUND

# Both kinds of API key, and a wrong one.
for keyed in (
    AuthenticatedClient(base_url=keyed_base, token=key),
    AuthenticatedClient(base_url=keyed_base, token=key, prefix="", auth_header_name="X-Api-Key"),
):
    assert wanted(Model, get_model.sync("world", client=keyed)).id == "world"
stranger = AuthenticatedClient(base_url=keyed_base, token="wrong")
assert wanted(Problem, get_model.sync("world", client=stranger)).code == ProblemCode.UNAUTHORIZED
