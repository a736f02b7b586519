//! A simulated labelled study: subjects, trials, two states.

use super::{EcgParameters, Morphology, Noise, Rng, SimulatedEcg, simulate_ecg};
use crate::error::{Error, Result};
use std::fmt;

/// The state a simulated subject is in during a trial: the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Label 0.
    Calm,
    /// Label 1.
    Aroused,
}

impl State {
    /// 0 for calm, 1 for aroused.
    pub fn label(self) -> u8 {
        match self {
            Self::Calm => 0,
            Self::Aroused => 1,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Calm => "calm",
            Self::Aroused => "aroused",
        })
    }
}

/// What arousal does to a simulated subject, as factors between calm and fully aroused, and how strongly it acts.
///
/// Heart rate and SDNN are the geometric means of the change from rest to mental arithmetic that we measured on EEGMAT
/// (Zyma et al. 2019; 32 subjects, intervals more than 30 % off a recording's median dropped): 76 to 91 beats per
/// minute (factor 1.19, its logarithm spread over subjects by 0.09), SDNN 51 to 41 ms (factor 0.80). That LF/HF rises is the
/// pooled finding of Castaldo et al. (Biomed. Signal Process. Control 18, 2015) and Kim et al. (Psychiatry Investig. 15(3),
/// 2018), that breathing quickens that of Grassmann et al. (Neural Plasticity 2016, 8146809); the amounts of these two are
/// assumptions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StateShift {
    /// Share of the full shift that acts: factors are raised to this power. Default 0.5, so that subjects differ by more
    /// than the state does; 0 makes a study in which nothing can be learnt.
    pub strength: f64,
    /// Factor on mean heart rate. Default 1.19.
    pub heart_rate_factor: f64,
    /// Factor on the standard deviation of RR intervals. Default 0.80.
    pub rr_sd_factor: f64,
    /// Factor on LF/HF. Default 1.3 (assumed).
    pub lf_hf_factor: f64,
    /// Factor on respiration rate. Default 1.2 (assumed).
    pub respiration_factor: f64,
    /// Standard deviation over subjects of the logarithm of the heart-rate factor. Default 0.09.
    pub response_log_sd: f64,
}

impl Default for StateShift {
    fn default() -> Self {
        Self {
            strength: 0.5,
            heart_rate_factor: 1.19,
            rr_sd_factor: 0.80,
            lf_hf_factor: 1.3,
            respiration_factor: 1.2,
            response_log_sd: 0.09,
        }
    }
}

/// How simulated subjects, and trials of one subject, differ. Spreads are standard deviations of natural logarithms.
///
/// Heart rate and SDNN at rest as on EEGMAT (mean 76 beats per minute, spread 0.14; 47 ms, spread 0.36). The other spreads
/// are assumptions of the order seen between people and electrode placements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubjectSpread {
    /// Median resting heart rate, in beats per minute. Default 75.
    pub heart_rate_bpm: f64,
    /// Spread of resting heart rate. Default 0.14.
    pub heart_rate_log_sd: f64,
    /// Median SDNN at rest, in seconds. Default 0.047.
    pub rr_sd_s: f64,
    /// Spread of SDNN. Default 0.36.
    pub rr_sd_log_sd: f64,
    /// Spread of LF/HF about 1. Default 0.5.
    pub lf_hf_log_sd: f64,
    /// Spread of the respiration rate about 0.25 Hz. Default 0.12.
    pub respiration_log_sd: f64,
    /// Spread of each wave's height. Default 0.25.
    pub height_log_sd: f64,
    /// Spread of each wave's width. Default 0.1.
    pub width_log_sd: f64,
    /// Spread of each wave's angle, in radians (R stays at 0). Default 0.04.
    pub angle_sd_rad: f64,
    /// Spread of the electrode gain. Default 0.35.
    pub gain_log_sd: f64,
    /// Spread of each disturbance. Default 0.6.
    pub noise_log_sd: f64,
    /// Spread of heart rate between trials of one subject in one state. Default 0.03.
    pub trial_heart_rate_log_sd: f64,
}

impl Default for SubjectSpread {
    fn default() -> Self {
        Self {
            heart_rate_bpm: 75.0,
            heart_rate_log_sd: 0.14,
            rr_sd_s: 0.047,
            rr_sd_log_sd: 0.36,
            lf_hf_log_sd: 0.5,
            respiration_log_sd: 0.12,
            height_log_sd: 0.25,
            width_log_sd: 0.1,
            angle_sd_rad: 0.04,
            gain_log_sd: 0.35,
            noise_log_sd: 0.6,
            trial_heart_rate_log_sd: 0.03,
        }
    }
}

/// A simulated study. Each trial is made on demand from the seed alone, in any order, with the same result.
///
/// Half of each subject's trials (rounded down) are calm, half aroused, in an order shuffled per subject, so that order
/// and state are not confounded. Gain and disturbances do not depend on the state.
///
/// ```
/// use heartlore::signal::simulate::SimulatedStudy;
/// let study = SimulatedStudy { subjects: 3, trials: 4, trial_s: 20.0, ..SimulatedStudy::default() };
/// let trial = study.trial(2, 1)?;
/// assert_eq!(trial.ecg.signal_mv.len(), 20 * 128);
/// # Ok::<(), heartlore::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedStudy {
    /// Number of subjects. Default 20.
    pub subjects: usize,
    /// Trials per subject. Default 6.
    pub trials: usize,
    /// Length of a trial, in seconds. Default 60.
    pub trial_s: f64,
    /// Sampling rate, in Hz. Default 128.
    pub fs_hz: f64,
    /// Names the study. Default 1.
    pub seed: u64,
    /// What arousal does.
    pub shift: StateShift,
    /// How subjects differ.
    pub spread: SubjectSpread,
}

impl Default for SimulatedStudy {
    fn default() -> Self {
        Self {
            subjects: 20,
            trials: 6,
            trial_s: 60.0,
            fs_hz: 128.0,
            seed: 1,
            shift: StateShift::default(),
            spread: SubjectSpread::default(),
        }
    }
}

/// One simulated trial with its label.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedTrial {
    /// Index of the simulated subject.
    pub subject: usize,
    /// Index of the trial within the subject.
    pub trial: usize,
    /// The label.
    pub state: State,
    /// What the recording was made from.
    pub parameters: EcgParameters,
    /// The simulated recording.
    pub ecg: SimulatedEcg,
}

impl SimulatedStudy {
    /// The states of a subject's trials, in order.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a subject outside the study.
    pub fn states(&self, subject: usize) -> Result<Vec<State>> {
        self.require(subject < self.subjects, || format!("subject {subject} of {}", self.subjects))?;
        let mut states: Vec<_> = (0..self.trials)
            .map(|t| if t < self.trials / 2 { State::Calm } else { State::Aroused })
            .collect();
        let mut rng = self.rng(subject, 1);
        for i in (1..states.len()).rev() {
            states.swap(i, (rng.uniform() * (i + 1) as f64) as usize);
        }
        Ok(states)
    }

    /// The parameters of a simulated subject at rest, before any trial.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a subject outside the study.
    pub fn subject(&self, subject: usize) -> Result<EcgParameters> {
        self.require(subject < self.subjects, || format!("subject {subject} of {}", self.subjects))?;
        let s = &self.spread;
        let mut rng = self.rng(subject, 0);
        let mut vary = |log_sd: f64| (log_sd * rng.normal().clamp(-2.5, 2.5)).exp();
        let mean_heart_rate_bpm = (s.heart_rate_bpm * vary(s.heart_rate_log_sd)).clamp(40.0, 130.0);
        let rr_sd_s = s.rr_sd_s * vary(s.rr_sd_log_sd);
        let lf_hf_ratio = vary(s.lf_hf_log_sd);
        let respiration_hz = 0.25 * vary(s.respiration_log_sd);
        let mut morphology = Morphology::default();
        for (i, wave) in morphology.waves.iter_mut().enumerate() {
            wave.height_mv *= vary(s.height_log_sd);
            wave.width_rad *= vary(s.width_log_sd);
            let shift_rad = vary(s.angle_sd_rad).ln();
            wave.angle_rad += if i == 2 { 0.0 } else { shift_rad };
        }
        let quiet = Noise::default();
        let noise = Noise {
            respiration_mv: quiet.respiration_mv * vary(s.noise_log_sd),
            wander_mv: quiet.wander_mv * vary(s.noise_log_sd),
            powerline_mv: quiet.powerline_mv * vary(s.noise_log_sd),
            muscle_mv: quiet.muscle_mv * vary(s.noise_log_sd),
            ..quiet
        };
        let electrode_gain = vary(s.gain_log_sd);
        Ok(EcgParameters {
            mean_heart_rate_bpm,
            rr_sd_s,
            lf_hf_ratio,
            respiration_hz,
            r_modulation: 0.05,
            morphology,
            noise,
            electrode_gain,
        })
    }

    /// Simulates one trial.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a subject or trial outside the study, settings that are not finite,
    /// or as [`simulate_ecg`].
    pub fn trial(&self, subject: usize, trial: usize) -> Result<SimulatedTrial> {
        let states = self.states(subject)?;
        self.require(trial < self.trials, || format!("trial {trial} of {}", self.trials))?;
        let state = states[trial];
        let mut p = self.subject(subject)?;
        let shift = &self.shift;
        let response = (shift.response_log_sd * self.rng(subject, 2).normal().clamp(-2.5, 2.5)).exp();
        let mut rng = self.rng(subject, 3 + trial as u64);
        p.mean_heart_rate_bpm *= (self.spread.trial_heart_rate_log_sd * rng.normal()).exp();
        if state == State::Aroused {
            p.mean_heart_rate_bpm *= (shift.heart_rate_factor * response).powf(shift.strength);
            p.rr_sd_s *= shift.rr_sd_factor.powf(shift.strength);
            p.lf_hf_ratio *= shift.lf_hf_factor.powf(shift.strength);
            p.respiration_hz *= shift.respiration_factor.powf(shift.strength);
        }
        // Stay inside what simulate_ecg accepts: a quick breath cannot be followed by a slow heart, see there.
        p.mean_heart_rate_bpm = p.mean_heart_rate_bpm.clamp(30.0, 200.0);
        p.rr_sd_s = p.rr_sd_s.min(0.2 * 60.0 / p.mean_heart_rate_bpm);
        p.respiration_hz = p.respiration_hz.min(0.45 * p.mean_heart_rate_bpm / 60.0);
        let ecg = simulate_ecg(&p, self.trial_s, self.fs_hz, rng.next_u64())?;
        Ok(SimulatedTrial { subject, trial, state, parameters: p, ecg })
    }

    /// All trials, subject by subject, each made when asked for.
    pub fn iter(&self) -> impl Iterator<Item = Result<SimulatedTrial>> + '_ {
        (0..self.subjects).flat_map(move |s| (0..self.trials).map(move |t| self.trial(s, t)))
    }

    fn rng(&self, subject: usize, part: u64) -> Rng {
        Rng::stream(Rng::stream(self.seed, subject as u64).next_u64(), part)
    }

    fn require(&self, inside: bool, what: impl Fn() -> String) -> Result<()> {
        if inside { Ok(()) } else { Err(Error::usage(format!("{} is not in the simulated study", what()))) }
    }
}
