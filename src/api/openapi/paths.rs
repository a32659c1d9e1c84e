//! Tile paths as clients write them.

use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{PathItem, Ref, RefOr, Required};

use crate::api::dto::words::TileFormat;

/// Rewrites a tile's path: the router allows one parameter per segment, so it has `{tile}` where clients write `{y}.{format}` or
/// `{y}.png`. (`{y}@2x` is left out: `tilesize=512` says the same, and lets `y` be a number.)
pub(super) fn as_clients_write(path: String, mut item: PathItem) -> (String, PathItem) {
    let Some(stem) = path.strip_suffix("{tile}") else { return (path.replace("{*path}", "{path}"), item) };
    let imagery = path.starts_with("/v1/sources/");
    if let Some(parameters) = item.get.as_mut().and_then(|get| get.parameters.as_mut()) {
        let is_tile = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(parameter) if parameter.name == "tile");
        let position = parameters.iter().position(is_tile).unwrap_or(parameters.len());
        let row = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0)).build();
        let row = path_parameter("y", "Row, from the north", Schema::Object(row).into(), json!(3));
        let format = RefOr::Ref(Ref::from_schema_name(TileFormat::name()));
        let format = path_parameter("format", "Format of the tile; not every task has every format", format, json!("png"));
        let end = (position + 1).min(parameters.len());
        parameters.splice(position..end, [Some(row), (!imagery).then_some(format)].into_iter().flatten());
    }
    (format!("{stem}{}", if imagery { "{y}.png" } else { "{y}.{format}" }), item)
}

fn path_parameter(name: &str, description: &str, schema: RefOr<Schema>, example: serde_json::Value) -> RefOr<Parameter> {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example))
        .build()
        .into()
}
