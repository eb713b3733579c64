"""Trees of chains: built from sampled pieces, walked from leaf to root, valued from the leaves."""

from collections.abc import Sequence

from saro.records import Finish, Node, Prompt, Tree, Verdict


class TreeBuilder:
    """Collects the chains of one prompt; pieces that chains share from the beginning are stored once."""

    def __init__(self, prompt: Prompt, prompt_ids: Sequence[int], model: str, seed: int) -> None:
        self._prompt, self._prompt_ids, self._model, self._seed = prompt, tuple(prompt_ids), model, seed
        self._nodes: list[Node] = []

    def add(
        self,
        pieces: Sequence[Sequence[int]],
        finish: Finish,
        verdict: Verdict,
        desirable: bool | None,
        log_probs: Sequence[float] = (),
        inserted: int | None = None,
    ) -> None:
        """Add a chain cut into pieces (token ids, none empty), with its tokens' log-probs where they are known.

        Piece number ``inserted`` was not sampled: ``log_probs`` leave it out. The last piece becomes a leaf of its own
        even where an equal one exists: two samples that say the same are two.
        """
        parent: int | None = None
        start = 0
        for place, piece in enumerate(pieces[:-1]):
            sampled = 0 if place == inserted else len(piece)
            found = tuple(log_probs[start : start + sampled])
            parent = self._inner(parent, tuple(piece), found, inserted=place == inserted)
            start += sampled
        leaf = Node(
            id=len(self._nodes),
            parent=parent,
            token_ids=tuple(pieces[-1]),
            log_probs=tuple(log_probs[start:]),
            finish=finish,
            verdict=verdict,
            desirable=desirable,
        )
        self._nodes.append(leaf)

    def _inner(
        self, parent: int | None, piece: tuple[int, ...], log_probs: tuple[float, ...], *, inserted: bool
    ) -> int:
        for node in self._nodes:
            if (node.parent, node.finish, node.token_ids, node.inserted) == (parent, None, piece, inserted):
                return node.id
        node = Node(id=len(self._nodes), parent=parent, token_ids=piece, log_probs=log_probs, inserted=inserted)
        self._nodes.append(node)
        return node.id

    def tree(self) -> Tree:
        """The finished tree, its nodes renumbered in depth-first order."""
        children = children_of(self._nodes)
        order: list[Node] = []

        waiting = children.get(None, [])[::-1]
        while waiting:  # a stack, since a chain of blank lines is deeper than Python recurses
            order.append(waiting.pop())
            waiting += children.get(order[-1].id, [])[::-1]
        number = {node.id: place for place, node in enumerate(order)}
        nodes = tuple(
            node.model_copy(
                update={"id": number[node.id], "parent": None if node.parent is None else number[node.parent]}
            )
            for node in order
        )
        return Tree(prompt=self._prompt, prompt_ids=self._prompt_ids, nodes=nodes, model=self._model, seed=self._seed)


def children_of(nodes: Sequence[Node]) -> dict[int | None, list[Node]]:
    """Children by parent id (None: the prompt), in order."""
    children: dict[int | None, list[Node]] = {}
    for node in nodes:
        children.setdefault(node.parent, []).append(node)
    return children


def path(tree: Tree, leaf: int) -> list[Node]:
    """The nodes from the prompt down to ``leaf``."""
    found: list[Node] = []
    at: int | None = leaf
    while at is not None:
        node = tree.nodes[at]
        found.append(node)
        at = node.parent
    return found[::-1]


def leaves(tree: Tree) -> list[Node]:
    """The leaves of the chains that the model sampled by itself, in depth-first order."""
    put_in = after_insertion(tree)
    return [node for node in tree.nodes if node.finish is not None and node.id not in put_in]


def after_insertion(tree: Tree) -> set[int]:
    """Ids of the inserted reflections and of all that follows them: what the model did not come to by itself."""
    found: set[int] = set()
    for node in tree.nodes:
        if node.inserted or node.parent in found:
            found.add(node.id)
    return found


def leaves_below(tree: Tree, node: int) -> list[Node]:
    """The leaves at or under ``node``; those behind a reflection that was put in under it do not count.

    In depth-first order a subtree stands in one piece.
    """
    below = [tree.nodes[node]]
    put_in: set[int] = set()
    for other in tree.nodes[node + 1 :]:
        if other.parent is None or other.parent < node:
            break
        if other.inserted or other.parent in put_in:
            put_in.add(other.id)
        else:
            below.append(other)
    return [step for step in below if step.finish is not None]


def value(tree: Tree, node: int) -> float | None:
    """Mean desirability of the scored leaves at or below ``node``, in [0, 1]; None where none is scored."""
    scored = [leaf.desirable for leaf in leaves_below(tree, node) if leaf.desirable is not None]
    return sum(scored) / len(scored) if scored else None


def course_change(tree: Tree, node: int) -> float | None:
    """How far a step changes the course: its value less its parent's, in [−1, 1].

    None at the beginning, behind a reflection that was put in, and where either has no value.
    """
    parent = tree.nodes[node].parent
    if parent is None or tree.nodes[node].inserted:
        return None
    before, after = value(tree, parent), value(tree, node)
    return None if before is None or after is None else after - before
