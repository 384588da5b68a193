"""Layers arrive in a real PostGIS database, all of them or none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from shapely import LineString, box

from prngeo.errors import PrngeoError, UsageError
from prngeo.vectorize.postgis import is_database, refuse_tables, shown, write_tables
from prngeo.vectorize.run import VectorizeOptions, vectorize_raster

sqlalchemy = pytest.importorskip("sqlalchemy")


def binaries() -> Path | None:
    """Folder of PostgreSQL's programs, if PostGIS is installed with them."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        extension = Path("/usr/share/postgresql", folder.parent.name, "extension", "postgis.control")
        if (folder / "initdb").exists() and extension.exists():
            return folder
    return None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own, with an empty database that has PostGIS and one that has not; its connection string."""
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL with PostGIS is installed")
    # PostgreSQL refuses to run as root, and other users cannot enter pytest's folders.
    as_root = os.geteuid() == 0
    if as_root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL cannot be started as root")
    user = ["runuser", "-u", "postgres", "--"] if as_root else []
    folder = tmp_path_factory.mktemp("server")
    if as_root:
        folder = Path(subprocess.check_output([*user, "mktemp", "-d"], text=True, cwd="/").strip())
    data = folder / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*command: str | Path) -> None:
        subprocess.run([*user, *map(str, command)], check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120)

    run(programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        url = f"postgresql://postgres:secret@127.0.0.1:{port}"
        for database, extension in (("town", "CREATE EXTENSION postgis"), ("plain", "SELECT 1")):
            run(programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", database)
            run(
                programs / "psql", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-c", extension, database
            )
        yield url
    finally:
        run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        run("rm", "-rf", folder)


@pytest.fixture
def town(server: str) -> Iterator[str]:
    """The database with PostGIS, without tables of ours."""
    yield f"{server}/town"
    with connected(f"{server}/town") as connection:
        for table in ("buildings", "roads", "lines"):
            connection.execute(sqlalchemy.text(f"DROP TABLE IF EXISTS {table}"))


def connected(url: str):
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sqlalchemy.NullPool)
    return engine.begin()


def read(url: str, table: str) -> gpd.GeoDataFrame:
    with connected(url) as connection:
        return gpd.read_postgis(f"SELECT * FROM {table} ORDER BY area_m2", connection)


def frame(*shapes, crs="EPSG:32645") -> gpd.GeoDataFrame:
    columns = {"area_m2": np.arange(len(shapes), dtype=float), "touches_edge": [True] * len(shapes)}
    return gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries(shapes, dtype="geometry"), crs=crs)


def test_a_raster_becomes_a_table(raster, town):
    mask = np.zeros((30, 30), np.uint8)
    mask[5:25, 5:25], mask[1, 1] = 1, 1
    path = raster(mask)
    result = vectorize_raster(path, town, VectorizeOptions(min_area=0))
    assert result.output == town.replace("secret", "***")
    found = read(town, "buildings")
    assert found.crs.to_epsg() == 32645
    assert found["area_m2"].tolist() == [0.25, 100.0]
    assert found["touches_edge"].dtype == bool
    expected = result.layers["buildings"].sort_values("area_m2", ignore_index=True)
    assert found.geometry.geom_equals(expected.geometry).all()
    with connected(town) as connection:
        query = "SELECT type, srid, f_geometry_column FROM geometry_columns WHERE f_table_name = 'buildings'"
        assert connection.execute(sqlalchemy.text(query)).one() == ("POLYGON", 32645, "geom")
        query = "SELECT count(*) FROM pg_indexes WHERE tablename = 'buildings' AND indexdef LIKE '%gist%'"
        assert connection.execute(sqlalchemy.text(query)).scalar() == 1
    with pytest.raises(UsageError, match=r"already has a table buildings. Pass --overwrite"):
        vectorize_raster(path, town, VectorizeOptions())
    vectorize_raster(path, town, VectorizeOptions(min_area=1, overwrite=True))
    assert len(read(town, "buildings")) == 1


def test_a_failure_changes_nothing(town):
    write_tables({"buildings": frame(box(0, 0, 1, 1))}, town)
    broken = frame(box(0, 0, 1, 1)).rename(columns={"touches_edge": "x" * 70}).assign(**{"x" * 69: 1})
    with pytest.raises(PrngeoError, match=r"Nothing was changed there") as caught:
        write_tables({"buildings": frame(box(0, 0, 1, 1), box(2, 0, 3, 1)), "roads": broken}, town)
    assert "secret" not in str(caught.value)
    assert len(read(town, "buildings")) == 1
    refuse_tables(town, ["roads"], overwrite=False)


def test_empty_layers_and_lines_and_missing_crs(town):
    line = frame(LineString([(0, 0), (1, 1)]), crs=None)
    write_tables({"buildings": frame(), "lines": line}, town)
    assert len(read(town, "buildings")) == 0
    assert read(town, "lines").geom_type.tolist() == ["LineString"]


def test_databases_that_do_not_suit_are_refused(server):
    with pytest.raises(UsageError, match=r"plain has no PostGIS. Run CREATE EXTENSION"):
        refuse_tables(f"{server}/plain", ["buildings"], overwrite=True)
    with pytest.raises(UsageError, match="cannot use the database .*nowhere") as caught:
        refuse_tables(f"{server}/nowhere", ["buildings"], overwrite=True)
    assert "secret" not in str(caught.value)


def test_a_crs_without_a_code_is_not_lost_silently(town):
    local = "+proj=tmerc +lat_0=10 +lon_0=20 +k=1 +x_0=0 +y_0=0 +ellps=GRS80 +units=m"
    with pytest.raises(UsageError, match="has no EPSG code"):
        write_tables({"buildings": frame(box(0, 0, 1, 1), crs=local)}, town)


def test_connection_strings():
    assert is_database("postgresql://localhost/town")
    assert is_database("postgres://localhost/town")
    assert not is_database("town.gpkg")
    assert shown("postgres://me:secret@host:5433/town").endswith("://me:***@host:5433/town")
    with pytest.raises(UsageError, match="no connection string"):
        shown("postgresql://host:port/town")
