"""Makes oracle.json: inputs and what SciPy, scikit-learn, statsmodels and mpmath say of them.

The versions are written into the file.   Run: python make.py
"""
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import mpmath as mp
import numpy as np
from scipy import special, stats
from sklearn import metrics as m
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

warnings.simplefilter("ignore")
rng = np.random.default_rng(20221)
out = {"versions": {p: version(p) for p in ("numpy", "scipy", "scikit-learn", "statsmodels", "mpmath")}}
out["versions"]["python"] = sys.version.split()[0]


def plain(x):
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple, np.ndarray)):
        return [plain(v) for v in x]
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    return float(x)


# Classification of two classes: continuous scores, scores with many ties, imbalance.
out["binary"] = []
for n, share, digits in [(60, 0.5, 3), (40, 0.2, 1), (101, 0.8, 2), (7, 0.4, 1)]:
    y = rng.random(n) < share
    y[0], y[1] = True, False
    p = np.round(np.clip(rng.normal(0.45 + 0.15 * y, 0.25), 0, 1), digits)
    hat = p >= 0.5
    fpr, tpr, _ = m.roc_curve(y, p, drop_intermediate=False)
    bins = 10
    true, pred = calibration_curve(y, p, n_bins=bins, strategy="uniform")
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p), minlength=bins)
    counts = counts[counts > 0]
    out["binary"].append(dict(
        y=y, p=p, accuracy=m.accuracy_score(y, hat), balanced=m.balanced_accuracy_score(y, hat),
        precision=m.precision_score(y, hat), recall=m.recall_score(y, hat), f1=m.f1_score(y, hat),
        specificity=m.recall_score(~y, ~hat), macro_f1=m.f1_score(y, hat, average="macro"),
        mcc=m.matthews_corrcoef(y, hat), auc=m.roc_auc_score(y, p), fpr=fpr, tpr=tpr,
        ap=m.average_precision_score(y, p), brier=m.brier_score_loss(y, p), log_loss=m.log_loss(y, p),
        ece=float(np.sum(counts * np.abs(true - pred)) / n), mce=float(np.max(np.abs(true - pred))),
    ))
t, p = rng.integers(0, 4, 80), rng.integers(0, 4, 80)
p[:30] = t[:30]
out["multi"] = dict(
    t=t, p=p, confusion=m.confusion_matrix(t, p).ravel(), balanced=m.balanced_accuracy_score(t, p),
    macro_f1=m.f1_score(t, p, average="macro"), mcc=m.matthews_corrcoef(t, p), f1=m.f1_score(t, p, average=None),
)

# Distribution functions.
dfs = [0.5, 1, 2, 3, 4, 9, 10, 24.5, 99, 1000, 1e6]
ps = [1e-12, 1e-6, 0.001, 0.025, 0.2, 0.4999, 0.5, 0.6, 0.95, 0.975, 0.999]

mp.mp.dps = 50


def t_tail(t, df):
    """P(T > t) for t >= 0."""
    return mp.betainc(mp.mpf(df) / 2, 0.5, 0, df / (mp.mpf(df) + t * t), regularized=True) / 2


def t_quantile(p, df):
    """SciPy's quantile is off by 2e-9 near the median (p = 0.4999, df = 4), so refine it with 50 digits."""
    start = stats.t.ppf(p, df)
    if p == 0.5:
        return 0.0
    tail = mp.log(min(mp.mpf(p), 1 - mp.mpf(p)))
    t = mp.findroot(lambda t: mp.log(t_tail(t, df)) - tail, abs(mp.mpf(start)))
    t = float(mp.sign(start) * t)
    assert abs(t - start) <= 1e-8 * abs(t), (p, df, t, start)
    return t


out["t_quantile"] = [[p, d, t_quantile(p, d)] for d in dfs for p in ps]
out["t_upper"] = [[x, d, stats.t.sf(x, d)] for d in dfs for x in (-3, -0.1, 0, 1e-4, 0.5, 2, 7, 40)]
out["normal_quantile"] = [[p, special.ndtri(p)] for p in ps + [1e-300, 1e-30, 0.5 + 1e-9, 1 - 1e-12]]
out["normal_cdf"] = [[z, special.ndtr(z)] for z in (-37, -10, -5, -2.2, -2.1, -1, -1e-5, 0, 0.3, 2.12, 5, 9)]
out["ln_gamma"] = [[x, special.gammaln(x)] for x in (1e-5, 0.1, 0.5, 1.5, 3.3, 9.99, 10, 100.5, 1e6)]
# SciPy's betaln(0.5, 5e5) is off by 2e-10, so 50 digits here too.
out["ln_beta"] = [[a, b, float(mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(mp.mpf(a) + b))] for a, b in
                  [(0.1, 0.2), (2, 3), (0.5, 9), (0.5, 12), (0.5, 5e5), (20, 30), (11, 1e5), (9.5, 10)]]
out["beta_inc"] = [[a, b, x, special.betainc(a, b, x)] for a, b in
                   [(0.5, 0.5), (2, 3), (0.5, 50), (30, 0.5), (40, 60)] for x in (1e-6, 0.01, 0.3, 0.5, 0.75, 0.99)]

# Intervals.
v = np.round(rng.normal(0.8, 0.05, 10), 4)
lo, hi = stats.t.interval(0.95, len(v) - 1, v.mean(), stats.sem(v))
out["mean_interval"] = dict(v=v, mean=v.mean(), low=lo, high=hi)
out["wilson"] = [[k, n, lv, *proportion_confint(k, n, 1 - lv, method="wilson")]
                 for k, n in [(0, 10), (1, 10), (7, 9), (50, 100), (999, 1000), (3, 3)] for lv in (0.9, 0.95)]
out["bootstrap"] = []
for data, stat in [(rng.exponential(1, 12), np.mean), (np.round(rng.normal(0, 1, 15), 1), np.median)]:
    data = np.round(data, 3)
    kw = dict(n_resamples=199, vectorized=False, confidence_level=0.9)
    bca = stats.bootstrap((data,), stat, method="BCa", rng=np.random.default_rng(1), **kw)
    per = stats.bootstrap((data,), stat, method="percentile", rng=np.random.default_rng(1), **kw)
    out["bootstrap"].append(dict(
        estimate=stat(data), replicates=bca.bootstrap_distribution,
        jackknife=[stat(np.delete(data, i)) for i in range(len(data))],
        bca=[bca.confidence_interval.low, bca.confidence_interval.high],
        percentile=[per.confidence_interval.low, per.confidence_interval.high],
    ))

# Paired tests.
out["paired"] = []
for n, digits in [(3, 3), (6, 3), (10, 3), (14, 1), (25, 4), (26, 4), (60, 1)]:
    d = np.round(rng.normal(0.3, 1, n), digits)
    clean = d[d != 0]
    exact = len(clean) <= 25 and len(np.unique(np.abs(clean))) == len(clean)
    w = stats.wilcoxon(clean, method="exact" if exact else "asymptotic", correction=False)
    row = dict(d=d, exact=exact, w=w.statistic, p=w.pvalue)
    tt = stats.ttest_1samp(d, 0)
    row |= dict(t=tt.statistic, t_p=tt.pvalue)
    ratio = 1 / 9
    t = d.mean() / np.sqrt((1 / n + ratio) * d.var(ddof=1))
    row |= dict(nb_t=t, nb_p=2 * stats.t.sf(abs(t), n - 1))
    if n <= 14:
        row["permutation"] = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True).pvalue
    out["paired"].append(row)
out["mcnemar"] = []
for b, c in [(0, 1), (0, 6), (5, 5), (3, 8), (10, 25), (40, 41), (100, 160), (1000, 1100)]:
    pmf = stats.binom.pmf(np.arange(b + c + 1), b + c, 0.5)
    at = stats.binom.pmf(b, b + c, 0.5)
    far = np.abs(np.arange(b + c + 1) - (b + c) / 2)
    here = abs(b - (b + c) / 2)
    mid = pmf[far > here].sum() + pmf[far == here].sum() / 2
    out["mcnemar"].append([b, c, mcnemar([[0, b], [c, 0]], exact=True).pvalue, mid])
p = np.round(rng.random(8) ** 3, 4)
p[3] = p[5]
out["holm"] = dict(p=p, adjusted=multipletests(p, method="holm")[1])

# Logistic regression.
out["logistic"] = []
for n, k, c, balanced in [(60, 1, 1.0, True), (80, 3, 1.0, True), (50, 5, 0.1, False), (40, 2, 100.0, True)]:
    y = rng.random(n) < 0.3
    x = np.round(rng.normal(0, 1, (n, k)) * 10 ** rng.integers(0, 3, k) + 5 + 2 * y[:, None], 4)
    scaler = StandardScaler().fit(x)
    lr = LogisticRegression(C=c, class_weight="balanced" if balanced else None, solver="newton-cholesky",
                            tol=1e-14, max_iter=1000).fit(scaler.transform(x), y)
    out["logistic"].append(dict(
        x=x.ravel(), columns=k, y=y, c=c, balanced=balanced, mean=scaler.mean_, scale=scaler.scale_,
        weights=lr.coef_[0], intercept=lr.intercept_[0], p=lr.predict_proba(scaler.transform(x))[:, 1],
    ))

versions = out.pop("versions")
text = json.dumps({"versions": versions} | plain(out), separators=(",", ":"))
Path(__file__).with_name("oracle.json").write_text(text.replace('],"', '],\n"').replace('},"', '},\n"') + "\n")
