"""What a domain lets an attacker make of a row: training keeps to it as the gate's attacks do.

Every function is copied into the steps that use it (``additional_funcs``), so each imports what it needs.
``rows`` is what ``read_rows`` gives. The rules are those of ``tallystick.tiles.attack.project.Space``, which
a pipeline that runs anywhere cannot import; ``tests/harden/test_domain.py`` sees that both are the same.
"""


def bounds(origin, rows, eps: float):
    """The least and the greatest of what each feature may become within ``eps``, two of float32 (n, d).

    Rounded inward, so that nothing between them is further than eps. Categories are :func:`allowed`'s.
    """
    import numpy as np

    def inward(values, side):
        made = values.astype(np.float32)
        past = side * made < side * values
        return np.where(past, np.nextafter(made, np.float32(side * np.inf)), made)

    here = origin.astype(np.float64)
    free = rows.reach > 0
    reach = np.multiply(eps, rows.reach, out=np.zeros(len(free)), where=free)
    least = inward(np.where(rows.up, here, here - reach), 1)
    most = inward(np.where(rows.down, here, here + reach), -1)
    least = np.maximum(least, rows.low.astype(np.float32))
    most = np.minimum(most, rows.high.astype(np.float32))
    least = np.where(rows.whole, np.ceil(least), least)
    most = np.where(rows.whole, np.floor(most), most)
    shut = (least > most) | ~free
    return np.where(shut, origin, least), np.where(shut, origin, most)


def allowed(wanted, origin, rows, eps: float, limits: tuple = ()):
    """The rows near ``wanted`` (n, d) that can be made of ``origin`` (n, d) within ``eps``, float32 (n, d).

    In range, whole where a column is whole, untouched where nobody can change it, only up or only down where
    that is the way, and of each one-hot group one category: the one that ``wanted`` leans to most.
    ``limits`` are the ``bounds`` where they are known.
    """
    import numpy as np

    wanted, origin = np.asarray(wanted, np.float32), np.asarray(origin, np.float32)
    least, most = limits or bounds(origin, rows, eps)
    made = np.clip(np.where(rows.whole, np.rint(wanted), wanted), least, most)
    made = np.where(wanted == origin, origin, made)
    for group in rows.groups:
        made[:, group] = category(wanted[:, group], origin[:, group], group, rows, eps)
    return made


def category(wanted, origin, group, rows, eps: float):
    """Of a one-hot group (n, k) the category that ``wanted`` leans to, where it can be had, as 0 and a 1."""
    import numpy as np

    free = rows.reach[group] > 0
    near = np.multiply(eps, rows.reach[group], out=np.zeros(len(group)), where=free) >= 1 - 1e-9
    able = near & (rows.low[group] <= 0) & (rows.high[group] >= 1)
    leave, take = able & ~rows.up[group], able & ~rows.down[group]
    at, hot = np.arange(len(wanted)), origin.argmax(axis=1)
    one = ((origin == 1).sum(axis=1) == 1) & ((origin == 0) | (origin == 1)).all(axis=1)
    open_ = one & leave[hot]
    leaning = np.where(take & open_[:, None], wanted, np.float32(-np.inf))
    best = leaning.argmax(axis=1)
    best = np.where(open_ & (leaning[at, best] > wanted[at, hot]), best, hot)
    made = np.zeros_like(origin)
    made[at, best] = 1.0
    return np.where((best == hot)[:, None], origin, made)


def as_attack(network, rows, eps: float, steps: int, seed: int):
    """Projected gradient (Madry et al. 2018) for ART's trainers, on rows that the domain allows.

    From a random row within ``eps``, ``steps`` steps along the gradient's signs; of a one-hot group, along
    the gradient as a share of its largest, so that the category leant to most is the best one. Steps go on
    between the rows that are allowed; gradients are taken at those (straight through).
    """
    import numpy as np
    from art.attacks.attack import EvasionAttack
    from art.estimators.estimator import BaseEstimator, LossGradientsMixin

    draw = np.random.default_rng(seed)
    reach = (eps * rows.reach).astype(np.float32)

    class Allowed(EvasionAttack):
        _estimator_requirements = (BaseEstimator, LossGradientsMixin)

        def way(self, slopes):
            moves = np.sign(slopes)
            for group in rows.groups:
                most = np.abs(slopes[:, group]).max(axis=1, keepdims=True)
                moves[:, group] = slopes[:, group] / np.maximum(most, 1e-30)
            return moves

        def generate(self, x, y=None, **kwargs):
            limits = bounds(x, rows, eps)
            wanted = x + reach * draw.uniform(-1, 1, x.shape).astype(np.float32)
            for _ in range(steps):
                slopes = self.estimator.loss_gradient(allowed(wanted, x, rows, eps, limits), y)
                wanted = wanted + np.float32(2.5 / steps) * reach * self.way(slopes)
                wanted = np.clip(wanted, x - reach, x + reach)
            return allowed(wanted, x, rows, eps, limits)

    return Allowed(estimator=network)
