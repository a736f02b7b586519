//! A simulator of single-lead ECG, and of labelled studies. Everything that comes from here is simulated.
//!
//! The model is the dynamical one of McSharry, Clifford, Tarassenko and Smith (IEEE TBME 50(3), 2003, 289-294): a point
//! runs round a circle once per heartbeat, and at fixed angles the P, Q, R, S and T waves push it up or down:
//!
//! ```text
//! theta' = w(t) = 2 pi / RR(t)
//! z'     = - sum over waves a_i w / b_i^2 d_i exp(-d_i^2 / 2 b_i^2) - z / (1 s),   d_i = theta - theta_i in (-pi, pi]
//! ```
//!
//! z is the ECG. On the circle, where the point starts and stays, the paper's x and y are cos theta and sin theta, so only
//! theta is kept. The factor w / b_i^2 is that of Sameni, Shamsollahi, Jutten and Clifford (IEEE TBME 54(12), 2007): it
//! makes a_i the height of the wave in mV whatever the heart rate; in the form of 2003 amplitude falls as rate rises, which
//! would give away a label that shifts the rate. The default angles, widths and relative heights are those of the
//! paper's table I (with that factor taken out), angles and widths growing with mean heart rate as in its authors' program
//! (ECGSYN). Time step: fourth-order Runge-Kutta at 512 Hz or more.
//!
//! RR(t) has a given mean and standard deviation and the paper's spectrum: two Gaussians of width 0.01 Hz, one at 0.1 Hz
//! (LF, Mayer waves), one at the respiration rate (HF), with a given ratio of powers and random phases. It is a sum of
//! cosines evaluated at each R peak, which becomes the next interval. The HF part is at once the respiration signal, so
//! respiratory sinus arrhythmia, the modulation of R amplitude (Moody et al. 1985) and respiratory wander go together.
//!
//! Numbers are reproducible by seed ([`Rng`]) up to the last bits of the platform's
//! `sin`, `exp` and `ln`.

mod ecg;
mod study;

pub use ecg::{EcgParameters, Morphology, Noise, SimulatedEcg, Wave, simulate_ecg};
pub use study::{SimulatedStudy, SimulatedTrial, State, StateShift, SubjectSpread};

use super::Rng;
