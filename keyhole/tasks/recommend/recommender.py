"""The Recommender: ranked lists, neighbours and features from who touched what."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from keyhole.checks import Finding
from keyhole.core.environment import seed_from
from keyhole.core.progress import heard_if_verbose, progress, stage, tell
from keyhole.data import open_source
from keyhole.data.frames import is_frame
from keyhole.data.identifiers import Identifiers
from keyhole.data.interactions import (
    InteractionColumns,
    Interactions,
    merged,
    of_matrix,
    read_interactions,
)
from keyhole.data.lazy import pa
from keyhole.errors import DataError, KeyholeWarning, SettingError
from keyhole.modalities import InteractionSchema
from keyhole.store import Bundle, Save, read_bundle, write_bundle
from keyhole.tasks.recommend.base import (
    NONE,
    RankingModel,
    best_items,
    checked_k,
)
from keyhole.tasks.recommend.choose import named
from keyhole.tasks.recommend.embedding import nearest
from keyhole.tasks.recommend.histories import (
    Histories,
    allowed_items,
    frame_like,
    known_places,
    open_histories,
    score_changes,
    tell_data,
)
from keyhole.tasks.recommend.judge import RankingEvaluation, judge
from keyhole.tasks.recommend.learn import learn_lists, learn_more
from keyhole.tasks.recommend.low_rank import LowRank
from keyhole.tasks.recommend.simple import Popularity
from keyhole.tasks.recommend.splits import later_lists
from keyhole.tasks.recommend.state import (
    SECTION,
    Fitted,
    RecommenderState,
    restored,
    section_of,
    tensors_of,
    text_of,
)


@heard_if_verbose("fit", "recommend", "partial_fit", "evaluate")
class Recommender(BaseEstimator):
    """Learns from interactions (user, item) which items a user may want next.

    Parameters
    ----------
    net : str or RankingModel, default="auto"
        A family ("linear", "low_rank", "factors", "variational", "denoising", "composite",
        "item_knn", "popularity"), also with settings ("linear:strength=300"). "auto": the
        best on held-out users of those that fit into time and memory, or a blend of two.
    schema : InteractionSchema, default=None
        The columns of users, items, values and times. None: guessed by their names.
    random_state : int, RandomState or None, default=None
        The seed of all that is random.
    verbose : bool, default=False
        Show progress and the verdict on standard error.

    Attributes
    ----------
    fitted_ : Fitted
        What ranks items, their vectors, and the interactions that were learned from.
    evaluation_ : RankingEvaluation
        Measures on held-out users that did not take part in the choice.
    why_ : list of str
        Which model was chosen, and why.
    compared_ : dict of str to float
        NDCG@100 of each model that was compared.
    verdict_, findings_
        How far to trust the lists, and what the checks object to.

    Raises
    ------
    SettingError
        In `fit`, for an unknown family or an invalid schema.
    DataError
        For rows without interactions, and for unknown items.

    Examples
    --------
    >>> import numpy as np
    >>> from keyhole import Recommender
    >>> from scipy import sparse
    >>> touched = np.random.default_rng(0).random((80, 20)) < 0.2
    >>> recommender = Recommender("popularity").fit(sparse.csr_array(touched * 1.0))
    >>> lists = recommender.recommend([[0, 1], [2]], k=3)
    >>> len(lists), list(lists)
    (6, ['user', 'rank', 'item', 'score'])
    """

    fitted_: Fitted
    evaluation_: RankingEvaluation
    why_: list[str]
    compared_: dict[str, float]
    _save: Save | None = None

    def __init__(
        self,
        net: str | RankingModel = "auto",
        *,
        schema: InteractionSchema | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.net = net
        self.schema = schema
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, align_to: Recommender | None = None) -> Self:
        """Learn from a frame or file of interactions, or a sparse matrix (user, item).

        Each pair of user and item counts once. Identifiers are compared as texts: 17, 17.0 and
        "17" are one. Vectors of items are turned towards those of `align_to`, an earlier fit.
        Raises: DataError, SettingError, FileError, FitError.
        """
        named(self.net)
        before = None if align_to is None else align_to._fitted()
        interactions, columns = self._read(X)
        if not interactions.history.nnz:
            raise DataError(
                "no interaction is left: each row needs a user, an item, and a value above "
                f"{self._schema.above:g} where there are values"
            )
        if self.verbose:
            tell_data(interactions, columns)
        seed, shown = seed_from(self.random_state), progress() if self.verbose else None
        learned = learn_lists(interactions, columns, self.net, seed, shown)
        self.fitted_ = learned.fitted.turned_to(before)
        self.evaluation_ = learned.evaluation
        self.why_, self.compared_ = learned.why, learned.compared
        self._tell_verdict()
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add new interactions, of known and new users and items, with the same settings.

        The vectors of items stay near those that they had. A net is trained and judged again
        only if there are new items. Raises: DataError, FileError.
        """
        if not hasattr(self, "fitted_"):
            return self.fit(X)
        new, _ = self._read(X, trained=True)
        every = merged(self.fitted_.interactions, new)
        learned, evaluation = learn_more(self.fitted_, every, seed_from(self.random_state))
        self.fitted_, self.evaluation_ = learned, evaluation or self.evaluation_
        self._tell_verdict()
        return self

    def recommend(
        self,
        X: Any,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        allow: Any = None,
        deny: Any = None,
    ) -> Any:
        """The best items of each user: columns `user`, `rank` (from 1), `item` and `score`.

        X is a list of known users, a list of lists of items (then `user` is the position in the
        list), or a frame or file of either: with a column of items it holds histories, also of
        users never seen. An empty history, and an unknown user, get popular items. Only items of
        `allow` and none of `deny` are recommended. The kind of frame is that of X.
        """
        check_is_fitted(self, "fitted_")
        k, allowed = checked_k(k), self.allowed(allow, deny)
        return frame_like(self.ranked(self.histories(X), k, exclude_seen, allowed), X)

    def ranked(
        self, histories: Histories, k: int, exclude_seen: bool = True, allowed: Any = None
    ) -> Any:
        """The answer of `recommend` as an Arrow table, for opened histories."""
        lists, own = histories.lists, self.fitted_.interactions
        empty = np.diff(lists.indptr) == 0
        settings: Any = {"exclude_seen": exclude_seen, "allowed": allowed}
        top, scores = best_items(self.fitted_.model, lists, k, **settings)
        if empty.any():
            popular = Popularity().fit(own.history)
            top[empty], scores[empty] = best_items(popular, lists[empty], k, **settings)
        known = top != NONE
        user = np.repeat(np.arange(len(top)), known.sum(1))
        rank = np.tile(np.arange(1, top.shape[1] + 1), (len(top), 1))[known]
        if len(top) and not known.any():
            self._warn("no item is left to recommend: all are known, denied or not allowed")
        return pa.table({
            "user": histories.users.take(pa.array(user)), "rank": rank,
            "item": own.items.take(top[known]), "score": scores[known].astype(np.float64),
        })  # fmt: skip

    def similar_items(self, items: Any, k: int = 10) -> Any:
        """The items most like each of these: columns `item`, `rank`, `similar` and `score`.

        `score` is the cosine of their vectors. Raises: DataError for an unknown item.
        """
        embedding, own = self._embedding(), self.fitted_.interactions
        places = known_places(own.items, items)
        near, cosine = nearest(embedding, places, checked_k(k))
        count, rank = near.shape[1], np.arange(1, near.shape[1] + 1)
        return frame_like(pa.table({
            "item": own.items.take(np.repeat(places, count)), "rank": np.tile(rank, len(places)),
            "similar": own.items.take(near.ravel()), "score": cosine.ravel().astype(np.float64),
        }), None)  # fmt: skip

    def embed(self, X: Any = None) -> Any:
        """Features for other models: `embedding_0`, ... of each item, or of the users of X.

        A user's vector is the weighted sum of those of its items. Raises: DataError.
        """
        return frame_like(self.embedded(None if X is None else self.histories(X)), X)

    def embedded(self, histories: Histories | None) -> Any:
        """The answer of `embed` as an Arrow table; None: of all items."""
        embedding, own = self._embedding(), self.fitted_.interactions
        if histories is None:
            names, vectors, label = own.items.array, embedding.vectors.numpy(), "item"
        else:
            names, label = histories.users, "user"
            vectors = embedding.codes(histories.lists)[: histories.lists.shape[0]].numpy()
        columns = {f"embedding_{i}": column for i, column in enumerate(vectors.T)}
        return pa.table({label: names, **columns})

    def explain(self, user: Any, item: Any, k: int = 3) -> Any:
        """Which items of a history brought this one: columns `item` and `change`.

        `user` is a known user or a list of items. `change` is how much the score of `item` falls
        without that item of the history. Raises: DataError.
        """
        check_is_fitted(self, "fitted_")
        k = checked_k(k)
        is_list = isinstance(user, list | tuple | set | np.ndarray)
        histories = self.histories([list(user)] if is_list else [user])
        own = self.fitted_.interactions
        (target,) = known_places(own.items, [item])
        places = histories.lists.indices
        change = score_changes(self.fitted_.model, histories.lists, int(target))
        order = np.argsort(-change, kind="stable")[:k]
        return frame_like(pa.table({
            "item": own.items.take(places[order].astype(np.int64)), "change": change[order],
        }), None)  # fmt: skip

    def evaluate(self, X: Any) -> RankingEvaluation:
        """Measures on later interactions, beside popularity and item-kNN, with intervals.

        Known users are given what they had in training and judged by what is new; of unknown ones
        four fifths are given. Raises: DataError where no user can be judged.
        """
        own = self._fitted().interactions
        later, columns = self._read(X, trained=True, items=own.items)
        notes = [] if columns is None else later.counts.sentences(columns)
        evaluation = judge(self.fitted_.model, own.history, *later_lists(own, later), notes)
        if not evaluation.users:
            raise DataError(
                "no user can be evaluated: a known user needs a new item that was in "
                "training; an unknown user needs two items that were in training"
            )
        return evaluation

    @property
    def verdict_(self) -> str:
        """One line on how far to trust the lists."""
        self._fitted()
        return self.evaluation_.verdict

    @property
    def findings_(self) -> list[Finding]:
        """What the checks object to."""
        check_is_fitted(self, "fitted_")
        return self.evaluation_.findings

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the recommender atomically as one file, with the lists that it learned from.

        Raises: FileError, BundleError.
        """
        fitted, evaluation, seed = self._fitted(), self.evaluation_, self.random_state
        own, embedding = fitted.interactions, fitted.embedding
        state = RecommenderState(
            columns=fitted.columns,
            numeric=[own.users.numeric, own.items.numeric],
            model=fitted.model.recipe(),
            embedding=None if embedding is None else embedding.recipe(),
            compared=self.compared_, why=self.why_,
            net=text_of(self.net),
            random_state=int(seed) if isinstance(seed, int | np.integer) else None,
            evaluation=evaluation.to_json(),
        )  # fmt: skip
        self._save = write_bundle(
            path, {SECTION: section_of(state)}, tensors_of(fitted), self._save
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str] | Bundle) -> Self:
        """The recommender saved in a file; runs no code from it. Raises: BundleError."""
        bundle = path if isinstance(path, Bundle) else read_bundle(path)
        state, fitted = restored(bundle)
        schema = fitted.columns and InteractionSchema(**asdict(fitted.columns))
        recommender = cls(state.net, schema=schema, random_state=state.random_state)
        recommender.fitted_, recommender._save = fitted, bundle.save
        recommender.compared_, recommender.why_ = state.compared, state.why
        recommender.evaluation_ = RankingEvaluation.of_json(state.evaluation)
        return recommender

    def _fitted(self) -> Fitted:
        check_is_fitted(self, "fitted_")
        return self.fitted_

    @property
    def _schema(self) -> InteractionSchema:
        if not isinstance(self.schema, InteractionSchema | None):
            raise SettingError(f"schema={self.schema!r:.60}: expected an InteractionSchema")
        return self.schema or InteractionSchema()

    def _columns(self, names: list[str], trained: bool) -> InteractionColumns:
        """The columns of the schema; with `trained`, those of training that a table has."""
        columns, schema = self.fitted_.columns if trained else None, self._schema
        if columns is not None:
            return columns.in_table(names)
        roles = {role: getattr(schema, role) for role in ("user", "item", "value", "time")}
        return InteractionColumns.guess(names, roles, schema.above)

    def _read(
        self, X: Any, *, trained: bool = False, items: Identifiers | None = None
    ) -> tuple[Interactions, InteractionColumns | None]:
        """The interactions of X, and their columns. Raises: DataError, FileError."""
        stage("reading interactions")
        if sparse.issparse(X):
            return of_matrix(X, self._schema.above, items), None
        if not (hasattr(X, "blocks") or is_frame(X) or isinstance(X, str | os.PathLike)):
            raise DataError(
                f"expected a frame or a file of interactions, or a sparse matrix (user, item), "
                f"got {type(X).__name__}"
            )
        source: Any = X if hasattr(X, "blocks") else open_source(X)
        columns = self._columns(source.names, trained)
        return read_interactions(source, columns, items), columns

    def _tell_verdict(self) -> None:
        if not self.verbose:
            return
        for sentence in self.why_:
            tell("model", sentence)
        tell("verdict", self.verdict_)
        for finding in self.findings_:
            tell("warning", f"{finding.code} {finding.title}: {finding.text}")

    def histories(self, X: Any) -> Histories:
        """The lists of users that are asked for; see `recommend`."""
        check_is_fitted(self, "fitted_")
        histories = open_histories(X, self.fitted_.interactions, self.fitted_.columns)
        for note in histories.notes:
            self._warn(note)
        return histories

    def _embedding(self) -> LowRank:
        embedding: Any = self._fitted().embedding
        if embedding is None:
            raise SettingError("items have no vectors: training had one user or one item")
        return embedding

    def allowed(self, allow: Any, deny: Any) -> np.ndarray | None:
        """Which items may be recommended; None: all."""
        allowed, unknown = allowed_items(self.fitted_.interactions.items, allow, deny)
        if unknown:
            self._warn(f"{unknown:,} items to allow or deny are unknown")
        return allowed

    def _warn(self, text: str) -> None:
        warnings.warn(text, KeyholeWarning, stacklevel=4)
