"""Makes the oracle of tests/hrv.rs: beat times (simulated intervals with slow and respiratory swings and noise) and what
NeuroKit2 says of them.

usage: python make.py   (in any directory)
Made with Python 3.11, numpy 2.4.6, scipy 1.17.1, neurokit2 0.2.13, astropy 8.0.2. One case per line pair: '# name', then the
samples of the beats at 333 Hz (a rate at which no interval falls on a limit of pNN20, pNN50 or a histogram bin), then
'name=value' pairs. Options are NeuroKit's defaults except where the functions below say otherwise:

* welch: intervals resampled at 4 Hz with a cubic spline (NeuroKit: 100 Hz, quadratic), density not normalised to maximum 1,
  from 0.0033 Hz on (NeuroKit leaves out what lies below two cycles per segment, most of VLF);
* lomb: multiplied by 2 mean(NN) / 1000, which turns astropy's unnormalised power into a density;
* sampen: counted here by the definition of Richman and Moorman, and equal to what NeuroKit returns (default_sampen);
* default_*: what NeuroKit's hrv_frequency returns with all its defaults, for the documentation only.
"""
import os
import warnings

import neurokit2 as nk
import numpy as np

warnings.filterwarnings("ignore")
os.chdir(os.path.dirname(os.path.abspath(__file__)))
FS = 333
BANDS = [(0.0033, 0.04), (0.04, 0.15), (0.15, 0.4)]


def beats(seed, span, mean, lf, hf, noise, wander):
    rng = np.random.default_rng(seed)
    t, out, drift = 0.5, [], 0.0
    while t < span:
        out.append(round(t * FS))
        drift = 0.98 * drift + wander * rng.standard_normal()
        t += mean + drift + lf * np.sin(2 * np.pi * 0.095 * t) + hf * np.sin(2 * np.pi * 0.26 * t + 1) + noise * rng.standard_normal()
    return np.array(out)


def sample_entropy(x, m, r):
    x = np.asarray(x)
    n = len(x) - m
    near = lambda k: np.abs(np.subtract.outer(x[k:k + n], x[k:k + n])) <= r
    short = near(0) & near(1)
    long = short & near(2)
    pairs = lambda a: (a.sum() - n) / 2
    return -np.log(pairs(long) / pairs(short))


with open("hrv.txt", "w", newline="\n") as f:
    for name, args in {"rest": (1, 330, 0.86, 0.03, 0.04, 0.01, 0.004), "load": (2, 305, 0.63, 0.012, 0.008, 0.006, 0.002),
                       "long": (3, 590, 0.95, 0.05, 0.02, 0.02, 0.006)}.items():
        p = beats(*args)
        rri, t = np.diff(p) / FS * 1000, p[1:] / FS
        out = {}
        a = nk.hrv_time(p, sampling_rate=FS).iloc[0]
        for k in ["MeanNN", "MedianNN", "SDNN", "RMSSD", "SDSD", "CVNN", "pNN50", "pNN20", "MinNN", "MaxNN", "HTI"]:
            out[k] = a["HRV_" + k]
        b = nk.hrv_nonlinear(p, sampling_rate=FS).iloc[0]
        out["SD1"], out["SD2"] = b["HRV_SD1"], b["HRV_SD2"]
        out["sampen"] = sample_entropy(rri, 2, 0.2 * np.std(rri, ddof=1))
        out["default_sampen"] = b["HRV_SampEn"]
        x, _, rate = nk.intervals_process(rri, intervals_time=t, interpolate=True, interpolation_rate=4, method="cubic")
        w = nk.signal_power(x, BANDS, sampling_rate=rate, method="welch", max_frequency=0.5,
                            normalize=False, min_frequency=0.0033)
        out["welch_vlf"], out["welch_lf"], out["welch_hf"] = w.iloc[0]
        s = nk.signal_power(rri, BANDS, sampling_rate=None, method="lomb", max_frequency=0.5, normalize=False, t=t,
                            min_frequency=1 / (5 * (t[-1] - t[0])))
        out["lomb_vlf"], out["lomb_lf"], out["lomb_hf"] = s.iloc[0] * 2 * rri.mean() / 1000
        d = nk.hrv_frequency(p, sampling_rate=FS, normalize=False).iloc[0]
        out["default_lf"], out["default_hf"] = d["HRV_LF"], d["HRV_HF"]
        f.write(f"# {name}\n" + ",".join(map(str, p)) + "\n" + " ".join(f"{k}={float(v):.17g}" for k, v in out.items()) + "\n")
