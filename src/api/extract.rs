//! Extractors like axum's own, whose rejections are [`Problem`]s and which refuse unknown query parameters.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;

use axum::extract::FromRequestParts;
use axum::extract::rejection::PathRejection;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use utoipa::IntoParams;

use super::error::Problem;
use crate::sync::IgnorePoison;

/// Path parameters, as `axum::extract::Path`.
pub(super) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Path(value) = axum::extract::Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection: PathRejection| Problem::rejected(rejection.status(), rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// Query parameters. An undocumented or repeated one is an error, so that a misspelt option is never ignored. `T` is a tuple of
/// the documented groups.
pub(super) struct Query<T>(pub T);

/// A struct of query parameters, each an `Option<String>` that is parsed where it is used.
pub(super) trait QueryGroup: IntoParams + DeserializeOwned + Send + 'static {}

impl<T: IntoParams + DeserializeOwned + Send + 'static> QueryGroup for T {}

/// The documented names of a group, computed once per group: building the documentation takes longer than serving a cached tile.
fn names<T: QueryGroup>() -> &'static [String] {
    static NAMES: RwLock<BTreeMap<TypeId, &'static [String]>> = RwLock::new(BTreeMap::new());
    if let Some(names) = NAMES.read().ignore_poison().get(&TypeId::of::<T>()) {
        return names;
    }
    let names: Vec<String> = T::into_params(|| None).into_iter().map(|parameter| parameter.name).collect();
    // Leaked on purpose: the number of groups is fixed at compile time.
    NAMES.write().ignore_poison().entry(TypeId::of::<T>()).or_insert_with(|| names.leak())
}

/// Deserialises the parameters of one group.
fn group<T: QueryGroup>(pairs: &[(String, String)]) -> Result<T, Problem> {
    let names = names::<T>();
    let own = || pairs.iter().filter(|(name, _)| names.contains(name));
    if let Some((name, _)) = own().enumerate().find_map(|(i, pair)| own().skip(i + 1).find(|(name, _)| *name == pair.0)) {
        return Err(Problem::invalid(format!("parameter {name:?}: found it twice; once is needed")));
    }
    let given = MapDeserializer::new(own().map(|(name, value)| (name.as_str(), Given(value))));
    T::deserialize(given).map_err(|error: serde::de::value::Error| Problem::invalid(format!("parameters: {error}")))
}

/// The value of a parameter that is given: `Some` text.
struct Given<'a>(&'a str);

impl<'de> IntoDeserializer<'de, serde::de::value::Error> for Given<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Given<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

macro_rules! query_of_groups {
    ($($group:ident),+) => {
        impl<S: Send + Sync, $($group: QueryGroup),+> FromRequestParts<S> for Query<($($group,)+)> {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                Self::of(&pairs(&parts.uri)?)
            }
        }

        impl<$($group: QueryGroup),+> Query<($($group,)+)> {
            /// The parameters of a query together with `others`, such as the members of a body.
            ///
            /// # Errors
            /// As of a query.
            #[allow(dead_code, reason = "few operations take parameters from elsewhere, too")]
            pub(super) fn with(uri: &Uri, others: Vec<(String, String)>) -> Result<Self, Problem> {
                Self::of(&[pairs(uri)?, others].concat())
            }

            /// The parameters in these pairs of names and texts.
            ///
            /// # Errors
            /// As of a query.
            pub(super) fn of(pairs: &[(String, String)]) -> Result<Self, Problem> {
                Self::beside(&[], pairs)
            }

            /// As [`of`](Self::of), where there are `others` beside those of the groups.
            ///
            /// # Errors
            /// As of a query.
            pub(super) fn beside(others: &[&str], pairs: &[(String, String)]) -> Result<Self, Problem> {
                let groups = ($(group::<$group>(pairs)?,)+);
                reject_unknown(pairs, &[$(names::<$group>()),+], others)?;
                Ok(Self(groups))
            }
        }
    };
}

query_of_groups!(A);
query_of_groups!(A, B);
query_of_groups!(A, B, C);
query_of_groups!(A, B, C, D);
query_of_groups!(A, B, C, D, E);

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    axum::extract::Query::try_from_uri(uri)
        .map(|axum::extract::Query(pairs)| pairs)
        .map_err(|rejection| Problem::rejected(rejection.status(), rejection.body_text()))
}

fn reject_unknown(pairs: &[(String, String)], groups: &[&[String]], others: &[&str]) -> Result<(), Problem> {
    match pairs.iter().find(|(name, _)| !groups.iter().any(|names| names.contains(name))) {
        None => Ok(()),
        Some((name, _)) => {
            let known: BTreeSet<&str> =
                groups.iter().copied().flatten().map(String::as_str).chain(others.iter().copied()).collect();
            let known: Vec<&str> = known.into_iter().collect();
            Err(Problem::invalid(format!("there is no parameter {name:?}; there are {}", known.join(", "))))
        }
    }
}

/// Refuses any query parameter.
pub(super) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match pairs(&parts.uri)?.first() {
            None => Ok(Self),
            Some((name, _)) => Err(Problem::invalid(format!("there is no parameter {name:?}; there are none here"))),
        }
    }
}

/// The problem for a form part that could not be read.
pub(super) fn form_problem(error: &axum::extract::multipart::MultipartError, limit: u64) -> Problem {
    if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::body_too_large(limit);
    }
    Problem::rejected(error.status(), format!("the multipart form is malformed: {}", error.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, IntoParams)]
    #[allow(dead_code, reason = "only its names matter")]
    struct Left {
        a: Option<String>,
    }

    #[derive(Debug, serde::Deserialize, IntoParams)]
    struct Right {
        b: Option<String>,
    }

    async fn query(uri: &str) -> Result<Option<String>, Problem> {
        let (mut parts, ()) = axum::http::Request::builder().uri(uri).body(()).unwrap().into_parts();
        let Query((_, right)) = Query::<(Left, Right)>::from_request_parts(&mut parts, &()).await?;
        Ok(right.b)
    }

    #[tokio::test]
    async fn groups_take_their_own_parameters_and_misspelt_ones_are_refused() {
        assert_eq!(query("/?a=1&b=x%20y").await.unwrap().as_deref(), Some("x y"));
        assert_eq!(query("/").await.unwrap(), None);
        let unknown = query("/?b=1&bb=2").await.unwrap_err();
        assert!(unknown.detail.contains("\"bb\"") && unknown.detail.contains("a, b"), "{}", unknown.detail);
        assert!(query("/?b=1&b=2").await.unwrap_err().detail.contains("twice"));
    }
}
