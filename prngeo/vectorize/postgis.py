"""Layers as tables of a PostGIS database."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import geopandas as gpd

from prngeo.errors import PrngeoError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")


def is_database(output: object) -> bool:
    """True if an output is named by a connection string."""
    return str(output).startswith(SCHEMES)


def shown(output: str) -> str:
    """A connection string without its password."""
    return _url(output).set(drivername="postgresql").render_as_string(hide_password=True)


def refuse_tables(output: str, layers: list[str], overwrite: bool) -> None:
    """Refuse what cannot be written, before anything is computed.

    Args:
        output: connection string, `postgresql://user:password@host:port/database`.
        layers: names of the tables.
        overwrite: tables of these names may be replaced.

    Raises:
        UsageError: the database cannot be reached, has no PostGIS, or holds a table of that name.
    """
    from sqlalchemy import inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _engine(output).connect() as connection:
            if connection.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'postgis'")).first() is None:
                raise UsageError(
                    f"the database {shown(output)} has no PostGIS. Run CREATE EXTENSION postgis there, or give another."
                )
            there = [layer for layer in layers if inspect(connection).has_table(layer)]
    except SQLAlchemyError as error:
        raise UsageError(
            f"cannot use the database {shown(output)}: {_reason(error)}. Give -o postgresql://user:password@host/name."
        ) from error
    if there and not overwrite:
        raise UsageError(
            f"the database {shown(output)} already has a table {there[0]}. Pass --overwrite to replace it, or choose "
            "another name with --target."
        )


def write_tables(layers: Mapping[str, gpd.GeoDataFrame], output: str) -> None:
    """Write each layer to a table of its name with a spatial index, replacing tables of these names.

    All of them in one transaction: other sessions see the old tables or all the new ones, also if writing fails.

    Args:
        layers: name and contents of each table; geometries of one kind are declared as such, others as Geometry.
        output: connection string.

    Raises:
        UsageError: the CRS of a layer has no EPSG code.
        PrngeoError: the database refuses.
    """
    from sqlalchemy.exc import SQLAlchemyError

    for name, frame in layers.items():
        if frame.crs is not None and frame.crs.to_epsg() is None:
            raise UsageError(
                f"the CRS of layer {name} ({frame.crs.name}) has no EPSG code, which a table needs: write a file."
            )
    try:
        with warnings.catch_warnings(), _engine(output).begin() as connection:
            warnings.filterwarnings("ignore", message="Could not parse CRS")  # it says so of layers without a CRS
            for name, frame in layers.items():
                frame.rename_geometry("geom").to_postgis(name, connection, if_exists="replace")
    except SQLAlchemyError as error:
        raise PrngeoError(
            f"writing to the database {shown(output)} failed: {_reason(error)}. Nothing was changed there."
        ) from error


def _engine(output: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(_url(output), poolclass=NullPool, connect_args={"connect_timeout": 15})


def _url(output: str) -> URL:
    try:
        import geoalchemy2  # noqa: F401
        import psycopg  # noqa: F401
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise UsageError(
            f"writing to a database needs the package {error.name}: run `pip install 'prngeo[postgis]'`."
        ) from error
    try:
        return make_url(output).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise UsageError("-o is no connection string: give it as postgresql://user:password@host:port/name.") from error


def _reason(error: Any) -> str:
    """What the database said, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
