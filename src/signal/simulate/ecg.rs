//! One simulated recording.

use super::Rng;
use crate::error::{Error, Result};
use crate::signal::{Band, butterworth, sosfilt};
use std::f64::consts::{PI, TAU};

/// One wave of the simulated heartbeat: a Gaussian bump over the phase of the beat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wave {
    /// Phase of the centre, in radians from the R peak, at 60 beats per minute.
    pub angle_rad: f64,
    /// Height (negative: depth), in mV.
    pub height_mv: f64,
    /// Standard deviation, in radians, at 60 beats per minute.
    pub width_rad: f64,
}

/// The simulated heartbeat: P, Q, R, S and T waves, in that order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Morphology {
    /// P, Q, R, S, T.
    pub waves: [Wave; 5],
}

impl Default for Morphology {
    /// Table I of McSharry et al. 2003, with an R wave of 1 mV. Relative heights are the paper's a_i b_i^2.
    fn default() -> Self {
        let wave = |degrees: f64, a: f64, width_rad: f64| Wave {
            angle_rad: degrees * PI / 180.0,
            height_mv: a * width_rad * width_rad / (30.0 * 0.1 * 0.1),
            width_rad,
        };
        Self {
            waves: [
                wave(-70.0, 1.2, 0.25),
                wave(-15.0, -5.0, 0.1),
                wave(0.0, 30.0, 0.1),
                wave(15.0, -7.5, 0.1),
                wave(100.0, 0.75, 0.4),
            ],
        }
    }
}

impl Morphology {
    /// The waves as they are at a mean heart rate: with g = sqrt(bpm / 60), widths and the angles of Q and S grow by g,
    /// the angles of P and T by sqrt(g), so that waves shorten less than the beat does.
    fn at_rate(&self, mean_bpm: f64) -> [Wave; 5] {
        let g = (mean_bpm / 60.0).sqrt();
        let by = [g.sqrt(), g, 1.0, g, g.sqrt()];
        std::array::from_fn(|i| Wave {
            angle_rad: self.waves[i].angle_rad * by[i],
            width_rad: self.waves[i].width_rad * g,
            ..self.waves[i]
        })
    }
}

/// What disturbs the simulated recording. All zero for a clean one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Wander with the breath, in mV per standard deviation of the respiration signal.
    pub respiration_mv: f64,
    /// Wander of the electrodes: standard deviation in mV, 0.02-0.5 Hz with amplitude as 1/f.
    pub wander_mv: f64,
    /// Amplitude of the mains hum, in mV. Nothing is added when its frequency is not below fs/2, where a recorder's own
    /// filter would have removed it.
    pub powerline_mv: f64,
    /// Frequency of the mains, in Hz.
    pub powerline_hz: f64,
    /// Muscle noise: standard deviation in mV, white above 20 Hz.
    pub muscle_mv: f64,
}

impl Noise {
    /// No disturbance.
    pub const NONE: Self =
        Self { respiration_mv: 0.0, wander_mv: 0.0, powerline_mv: 0.0, powerline_hz: 50.0, muscle_mv: 0.0 };
}

impl Default for Noise {
    /// A good resting recording.
    fn default() -> Self {
        Self {
            respiration_mv: 0.05,
            wander_mv: 0.05,
            powerline_mv: 0.01,
            powerline_hz: 50.0,
            muscle_mv: 0.015,
        }
    }
}

/// What makes one simulated recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EcgParameters {
    /// 60 over the mean RR interval, in beats per minute.
    pub mean_heart_rate_bpm: f64,
    /// Standard deviation of the RR intervals, in seconds.
    pub rr_sd_s: f64,
    /// Power of the RR intervals around 0.1 Hz over that around the respiration rate.
    pub lf_hf_ratio: f64,
    /// Mean respiration rate, in Hz.
    pub respiration_hz: f64,
    /// Share by which the amplitude of the ECG changes per standard deviation of respiration.
    pub r_modulation: f64,
    /// The heartbeat.
    pub morphology: Morphology,
    /// Disturbances.
    pub noise: Noise,
    /// Factor on everything but mains hum: electrode placement, skin, body.
    pub electrode_gain: f64,
}

impl Default for EcgParameters {
    /// A resting adult: 70 beats per minute, SDNN 50 ms (Task Force 1996), 15 breaths per minute.
    fn default() -> Self {
        Self {
            mean_heart_rate_bpm: 70.0,
            rr_sd_s: 0.05,
            lf_hf_ratio: 1.0,
            respiration_hz: 0.25,
            r_modulation: 0.05,
            morphology: Morphology::default(),
            noise: Noise::default(),
            electrode_gain: 1.0,
        }
    }
}

/// A simulated recording.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedEcg {
    /// The simulated ECG, in mV.
    pub signal_mv: Vec<f64>,
    /// Sampling rate, in Hz.
    pub fs_hz: f64,
    /// Times of the R waves' centres within the recording, in seconds from its start.
    pub r_times_s: Vec<f64>,
}

/// Centre of the LF Gaussian and width of both, in Hz (McSharry et al. 2003).
const LF_HZ: f64 = 0.1;
const SPECTRAL_WIDTH_HZ: f64 = 0.01;
/// Time before the recording in which the model settles, in seconds; its memory is 1 s.
const SETTLE_S: f64 = 16.0;
/// Longest recording, in seconds (a week).
const MAX_DURATION_S: f64 = 604_800.0;

impl EcgParameters {
    fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::usage(format!("simulated {name} of {value} is outside {low}..={high}")))
        };
        within("mean heart rate (beats per minute)", self.mean_heart_rate_bpm, 20.0, 220.0)?;
        let mean_rr_s = 60.0 / self.mean_heart_rate_bpm;
        within("standard deviation of RR intervals (s)", self.rr_sd_s, 0.0, mean_rr_s / 4.0)?;
        within("LF/HF ratio", self.lf_hf_ratio, 0.0, 1000.0)?;
        // Above half the heart rate the beats cannot follow the breath: it would appear at a wrong, lower frequency.
        within("respiration rate (Hz)", self.respiration_hz, 0.06, 0.5 / mean_rr_s)?;
        within("modulation by respiration", self.r_modulation, -0.2, 0.2)?;
        within("electrode gain", self.electrode_gain, -1000.0, 1000.0)?;
        let n = &self.noise;
        for v in [n.respiration_mv, n.wander_mv, n.powerline_mv, n.muscle_mv] {
            within("disturbance (mV)", v, 0.0, 1000.0)?;
        }
        within("mains frequency (Hz)", n.powerline_hz, 1.0, 1000.0)?;
        for w in self.morphology.waves {
            within("wave angle (rad)", w.angle_rad, -PI, PI)?;
            within("wave height (mV)", w.height_mv, -1000.0, 1000.0)?;
            within("wave width (rad)", w.width_rad, 0.01, 1.0)?;
        }
        Ok(())
    }
}

/// A stationary random signal of standard deviation 1: cosines with given powers and random phases.
struct Cosines(Vec<(f64, f64, f64)>);

impl Cosines {
    /// Lines every `step_hz` over `low_hz..=high_hz`, with powers in proportion to `density`.
    fn new(rng: &mut Rng, low_hz: f64, high_hz: f64, step_hz: f64, density: impl Fn(f64) -> f64) -> Self {
        let count = ((high_hz - low_hz) / step_hz).floor() as usize + 1;
        let mut lines: Vec<_> = (0..count)
            .map(|i| {
                let f_hz = low_hz + i as f64 * step_hz;
                (density(f_hz).sqrt(), TAU * f_hz, TAU * rng.uniform())
            })
            .collect();
        let power: f64 = lines.iter().map(|(a, ..)| a * a / 2.0).sum();
        lines.iter_mut().for_each(|(a, ..)| *a /= power.sqrt());
        Self(lines)
    }

    /// Gaussian spectrum about `centre_hz`.
    fn gaussian(rng: &mut Rng, centre_hz: f64, step_hz: f64) -> Self {
        let c = SPECTRAL_WIDTH_HZ;
        let low_hz = (centre_hz - 4.0 * c).max(step_hz);
        Self::new(rng, low_hz, centre_hz + 4.0 * c, step_hz, |f| {
            (-(f - centre_hz).powi(2) / (2.0 * c * c)).exp()
        })
    }

    fn at(&self, t_s: f64) -> f64 {
        self.0.iter().map(|(a, w, phase)| a * (w * t_s + phase).cos()).sum()
    }

    /// Values at `n` sample times, interpolated linearly between points 0.1 s apart (these signals end at 1 Hz).
    fn sampled(&self, n: usize, fs_hz: f64) -> Vec<f64> {
        let knots_hz = 10.0;
        let count = (n as f64 / fs_hz * knots_hz) as usize + 2;
        let knots: Vec<f64> = (0..count).map(|i| self.at(i as f64 / knots_hz)).collect();
        (0..n)
            .map(|i| {
                let u = i as f64 / fs_hz * knots_hz;
                let k = (u as usize).min(count - 2);
                knots[k] + (u - k as f64) * (knots[k + 1] - knots[k])
            })
            .collect()
    }
}

/// Simulates `duration_s` of ECG at `fs_hz`. The same arguments give the same recording.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a duration outside 1 s to a week, a sampling rate outside 50-5000 Hz, or
/// parameters no heart has (named).
pub fn simulate_ecg(
    parameters: &EcgParameters,
    duration_s: f64,
    fs_hz: f64,
    seed: u64,
) -> Result<SimulatedEcg> {
    parameters.check()?;
    if !(1.0..=MAX_DURATION_S).contains(&duration_s) {
        return Err(Error::usage(format!(
            "simulated duration of {duration_s} s is outside 1..={MAX_DURATION_S}"
        )));
    }
    if !(50.0..=5000.0).contains(&fs_hz) {
        return Err(Error::usage(format!("simulated sampling rate of {fs_hz} Hz is outside 50..=5000")));
    }
    // One stream each, so that changing one ingredient leaves the random numbers of the others.
    let stream = |i: u64| Rng::stream(seed, i);
    let n = (duration_s * fs_hz).round() as usize;
    let step_hz = 1.0 / duration_s.max(1000.0);
    let lf = Cosines::gaussian(&mut stream(0), LF_HZ, step_hz);
    let respiration = Cosines::gaussian(&mut stream(1), parameters.respiration_hz, step_hz);
    let beats_s = beat_times_s(parameters, duration_s, &lf, &respiration, &mut stream(2));
    let mut signal_mv =
        integrate(&parameters.morphology.at_rate(parameters.mean_heart_rate_bpm), &beats_s, n, fs_hz);
    let breath = respiration.sampled(n, fs_hz);
    let noise = &parameters.noise;
    for (v, b) in signal_mv.iter_mut().zip(&breath) {
        *v = *v * (1.0 + parameters.r_modulation * b) + noise.respiration_mv * b;
    }
    if noise.wander_mv > 0.0 {
        let wander = Cosines::new(&mut stream(3), 0.02, 0.5, step_hz.max(0.005), |f| 1.0 / (f * f));
        let wander = wander.sampled(n, fs_hz);
        signal_mv.iter_mut().zip(wander).for_each(|(v, w)| *v += noise.wander_mv * w);
    }
    if noise.muscle_mv > 0.0 {
        let muscle = muscle_noise(n, fs_hz, &mut stream(4))?;
        signal_mv.iter_mut().zip(muscle).for_each(|(v, m)| *v += noise.muscle_mv * m);
    }
    signal_mv.iter_mut().for_each(|v| *v *= parameters.electrode_gain);
    if noise.powerline_mv > 0.0 && noise.powerline_hz < fs_hz / 2.0 {
        let phase = TAU * stream(5).uniform();
        for (i, v) in signal_mv.iter_mut().enumerate() {
            *v += noise.powerline_mv * (TAU * noise.powerline_hz * i as f64 / fs_hz + phase).sin();
        }
    }
    let r_times_s = beats_s.into_iter().filter(|t| (0.0..n as f64 / fs_hz).contains(t)).collect();
    Ok(SimulatedEcg { signal_mv, fs_hz, r_times_s })
}

/// Times of the R waves from before the settling time to after the end.
fn beat_times_s(
    p: &EcgParameters,
    duration_s: f64,
    lf: &Cosines,
    respiration: &Cosines,
    rng: &mut Rng,
) -> Vec<f64> {
    let mean_rr_s = 60.0 / p.mean_heart_rate_bpm;
    // Short intervals are sampled more often than long ones, so the mean over beats of a signal with mean m and standard
    // deviation s over time is m - s^2 / m; the level makes up for it.
    let level_s = mean_rr_s + p.rr_sd_s * p.rr_sd_s / mean_rr_s;
    let lf_share = p.lf_hf_ratio / (1.0 + p.lf_hf_ratio);
    let (lf_s, hf_s) = (p.rr_sd_s * lf_share.sqrt(), p.rr_sd_s * (1.0 - lf_share).sqrt());
    let mut t = -SETTLE_S - mean_rr_s * (1.0 + rng.uniform());
    let mut times = vec![t];
    while t <= duration_s + mean_rr_s {
        // Breathing in (respiration rises) speeds the heart up: respiratory sinus arrhythmia.
        let change_s = lf_s * lf.at(t) - hf_s * respiration.at(t);
        // This bound, passed once in 10 000 beats, keeps the interval positive for every accepted parameter.
        t += level_s + change_s.clamp(-3.9 * p.rr_sd_s, 3.9 * p.rr_sd_s);
        times.push(t);
    }
    times
}

/// Integrates z and returns it at the sample times, in mV.
fn integrate(waves: &[Wave; 5], beats_s: &[f64], n: usize, fs_hz: f64) -> Vec<f64> {
    let per_sample = (512.0 / fs_hz).ceil().max(1.0) as usize;
    let step_s = 1.0 / (fs_hz * per_sample as f64);
    let settle = (SETTLE_S / step_s).ceil() as usize;
    let mut beat = 0;
    // What pushes z at time t, which never decreases from call to call.
    let mut push = |t: f64| {
        while beat + 2 < beats_s.len() && t >= beats_s[beat + 1] {
            beat += 1;
        }
        let w = TAU / (beats_s[beat + 1] - beats_s[beat]);
        let theta = w * (t - beats_s[beat]);
        waves
            .iter()
            .map(|wave| {
                let d = theta - wave.angle_rad;
                let d = d - TAU * (d / TAU).round();
                let u = d / wave.width_rad;
                -wave.height_mv * w / wave.width_rad * u * (-0.5 * u * u).exp()
            })
            .sum::<f64>()
    };
    let time = |half_steps: usize| (half_steps as f64 / 2.0 - settle as f64) * step_s;
    let mut out = Vec::with_capacity(n);
    let (mut z, mut now) = (0.0f64, push(time(0)));
    for k in 0..settle + n * per_sample {
        if k >= settle && (k - settle).is_multiple_of(per_sample) {
            out.push(z);
        }
        let (mid, next) = (push(time(2 * k + 1)), push(time(2 * k + 2)));
        let k1 = now - z;
        let k2 = mid - (z + step_s / 2.0 * k1);
        let k3 = mid - (z + step_s / 2.0 * k2);
        let k4 = next - (z + step_s * k3);
        z += step_s / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
        now = next;
    }
    out
}

/// White noise above 20 Hz with standard deviation 1.
fn muscle_noise(n: usize, fs_hz: f64, rng: &mut Rng) -> Result<Vec<f64>> {
    let white: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
    let high = sosfilt(&butterworth(2, Band::Highpass { low_hz: 20.0 }, fs_hz)?, &white)?;
    let rms = (high.iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
    Ok(high.into_iter().map(|v| v / rms).collect())
}
