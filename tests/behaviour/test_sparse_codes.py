"""Embeddings in list columns, and their sparse codes as lists and SciPy arrays."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from keyhole import Autoencoder, DataError, Schema, SettingError, TrainingConfig
from keyhole.bottlenecks import Plain, Pursuit, TopK
from keyhole.cli import run
from keyhole.data import open_source
from keyhole.data.opening import all_rows
from keyhole.tasks import Embed, read_sparse, sparse_codes

ROWS, LENGTH = 60, 18
SHORT = TrainingConfig(3, members=1, batch=16)
pytestmark = pytest.mark.filterwarnings("ignore::keyhole.errors.KeyholeWarning")


def numbers() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, LENGTH)).astype(np.float32)


def lists(kind: str, rows: list | None = None) -> pa.Array:
    rows = numbers().tolist() if rows is None else rows
    types = {
        "fixed": pa.list_(pa.float32(), LENGTH), "list": pa.list_(pa.float32()),
        "large": pa.large_list(pa.float32()), "half": pa.list_(pa.float16(), LENGTH),
    }  # fmt: skip
    return pa.array(rows, types[kind])


def table(kind: str = "fixed", rows: list | None = None) -> pa.Table:
    names = pa.array([f"item {i}" for i in range(ROWS if rows is None else len(rows))])
    return pa.table({"id": names, "vector": lists(kind, rows)})


def fitted(bottleneck=None, rows: pa.Table | None = None, **arguments) -> Autoencoder:
    model = Autoencoder(bottleneck or TopK(32, k=4), training=SHORT, random_state=0, **arguments)
    return model.fit(table() if rows is None else rows)


@pytest.mark.parametrize("kind", ["fixed", "list", "large", "half"])
@pytest.mark.parametrize("stored", [True, False])
def test_lists_of_one_length_are_read_as_that_many_columns(kind, stored, tmp_path):
    data = table(kind)
    if stored:
        pq.write_table(data, tmp_path / "e.parquet", row_group_size=25)
        data = tmp_path / "e.parquet"
    source = open_source(data)
    assert source.names == ["id", *(f"vector[{i}]" for i in range(LENGTH))]
    rows = all_rows(source)
    atol = 0.01 if kind == "half" else 0
    np.testing.assert_allclose(rows.matrix(source.names[1:]), numbers(), atol=atol)


def test_one_column_of_the_numbers_of_a_list_is_read_alone(tmp_path):
    pq.write_table(table("list"), tmp_path / "e.parquet")
    source = open_source(tmp_path / "e.parquet", ["vector[3]"])
    assert source.names == ["vector[3]"]
    np.testing.assert_array_equal(all_rows(source).matrix(["vector[3]"])[:, 0], numbers()[:, 3])


@pytest.mark.parametrize("kind", ["fixed", "list"])
def test_a_null_list_is_a_gap_in_all_its_columns(kind):
    rows = numbers().tolist()
    rows[0], rows[2], rows[5][1] = None, None, None
    source = open_source(table(kind, rows))
    matrix = all_rows(source).matrix(source.names[1:])
    assert np.isnan(matrix[[0, 2]]).all()
    assert np.isnan(matrix[5, 1])
    np.testing.assert_array_equal(matrix[[1, 3, 4]], numbers()[[1, 3, 4]])


def test_lists_of_unequal_length_are_refused_unless_they_are_left_out():
    rows = numbers().tolist()
    rows[7] = rows[7][:-1]
    ragged = table("list", rows).append_column("x", pa.array(numbers()[:, 0]))
    with pytest.raises(DataError, match=r"'vector' holds lists of unequal length.*leave the"):
        fitted(Plain(1), ragged)
    model = fitted(Plain(1), ragged, schema=Schema(exclude=["vector"]))
    assert model.transform(ragged).num_columns == 1
    with pytest.raises(DataError, match="'vector' holds lists of unequal length"):
        fitted().transform(ragged)


def test_a_list_of_another_length_further_down_is_refused(tmp_path):
    rows = [*numbers().tolist() * 20, [1.0]]
    pq.write_table(table("list", rows), tmp_path / "e.parquet")
    with pytest.raises(DataError, match="'vector' holds lists of unequal length"):
        fitted(rows=tmp_path / "e.parquet")


@pytest.mark.parametrize("rows", [[[]] * 30, [[], *[[1.0, 2.0]] * 30]])
def test_empty_lists_are_refused(rows):
    with pytest.raises(DataError, match="or empty lists"):
        fitted(Plain(1), pa.table({"vector": pa.array(rows, pa.list_(pa.float32()))}))


@pytest.mark.parametrize("kind", ["fixed", "list"])
def test_a_table_of_lists_without_rows_says_so(kind):
    with pytest.raises(DataError, match="no rows"):
        fitted(rows=table(kind, []))


def test_a_list_column_is_named_by_its_own_name_in_a_schema():
    data = table().append_column("x", pa.array(numbers()[:, 0]))
    schema = Schema(exclude=["vector"]).matched(open_source(data).names)
    assert schema.exclude == [f"vector[{i}]" for i in range(LENGTH)]
    model = fitted(Plain(1), data, schema=Schema(only=["x"]))
    assert model.model_.modality.needs() == ["x"]


def test_the_numbers_of_a_list_share_one_scale_without_transform():
    data = numbers()
    data[:, 0] = np.round(np.exp(3 * data[:, 0]))  # by itself a long-tailed count
    columns = fitted(rows=table("fixed", data.tolist())).model_.modality.encoded_columns
    assert {c.kind for c in columns} == {"number"}
    assert len({c.scale for c in columns}) == 1
    assert not any(c.transformed or c.point_mass for c in columns)


@pytest.mark.parametrize("bottleneck", [TopK(32, k=4), Pursuit(32, k=4)])
def test_sparse_answers_hold_the_dense_codes(bottleneck):
    model = fitted(bottleneck)
    dense = np.stack([c.to_numpy() for c in model.transform(table()).columns], 1)
    answer = Embed(model, sparse=True).answer(table())
    assert str(answer.schema.field("indices").type.value_type) == "uint16"
    lengths = {len(row) for row in answer.column("indices").to_pylist()}
    assert max(lengths) <= 4
    for codes in (read_sparse(answer), sparse_codes(model, table())):
        assert isinstance(codes, sparse.csr_array)
        np.testing.assert_array_equal(codes.toarray(), dense)
        assert all((np.diff(codes[[i]].indices) > 0).all() for i in range(ROWS))


def test_the_codes_of_a_pursuit_do_not_depend_on_other_rows():
    model = fitted(Pursuit(32, k=4))
    some = model.transform(table().slice(3, 2)).to_pylist()
    assert some == model.transform(table()).slice(3, 2).to_pylist()


def test_pursuit_finds_the_atoms_that_rows_are_made_of():
    rng = np.random.default_rng(1)
    atoms = rng.normal(size=(24, LENGTH))
    weights = np.zeros((1_200, 24))
    for row in weights:
        row[rng.choice(24, 2, replace=False)] = rng.uniform(1, 2, 2)
    x = weights @ atoms
    training = TrainingConfig(150, members=1, batch=64, learning_rate=1e-2)
    model = Autoencoder(Pursuit(24, k=2), training=training, random_state=0).fit(x)
    left = x - model.inverse_transform(model.transform(x))
    assert (left**2).sum() < 0.4 * ((x - x.mean(0)) ** 2).sum()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    pq.write_table(table(), folder / "e.parquet")
    fitted().save(folder / "m.keyhole")
    return folder


def embedded(saved, name: str):
    arguments = [str(saved / "m.keyhole"), str(saved / "e.parquet"), "--sparse"]
    assert run(["embed", *arguments, "-o", str(saved / name)]) == 0
    return saved / name


def test_the_command_writes_lists_that_come_back_as_codes(saved):
    model = Autoencoder.load(saved / "m.keyhole")
    dense = sparse_codes(model, saved / "e.parquet").toarray()
    np.testing.assert_array_equal(read_sparse(embedded(saved, "c.parquet")).toarray(), dense)
    lines = embedded(saved, "c.jsonl").read_text().splitlines()
    places = [json.loads(line)["indices"] for line in lines]
    assert places == [np.flatnonzero(row).tolist() for row in dense]
    cells = pyarrow.csv.read_csv(embedded(saved, "c.csv")).column("indices").to_pylist()
    assert [json.loads(cell) for cell in cells] == places


def test_dense_codes_are_refused_as_sparse_ones(saved):
    message = "the plain bottleneck has dense codes: fit with pursuit, top_k or l1"
    model = fitted(Plain(2))
    for call in (lambda: Embed(model, sparse=True), lambda: sparse_codes(model, table())):
        with pytest.raises(SettingError, match=message):
            call()
    with pytest.raises(DataError, match="holds no sparse codes"):
        read_sparse(saved / "e.parquet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"k": 0}, "k=0"), ({"rounds": 0}, "rounds=0"), ({"width": 9_000}, "at most 8,192")],
)
def test_a_pursuit_says_which_argument_is_wrong(arguments, message):
    with pytest.raises(SettingError, match=message):
        fitted(Pursuit(**arguments))
