"""A scikit-learn classifier on a model's features."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from ._heartlore import Model


class HeartloreClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression on the features of a trained model (a linear probe).

    Parameters
    ----------
    model : str or Model
        Directory of a model, or a loaded one. Its parameters are not changed.
    C : float
        Inverse strength of the penalty. With `groups` in :meth:`fit`, chosen among 0.01 to 10 times this by folds that
        never mix a group.
    threads : int
        Threads for the features; 0 takes one per core.

    Notes
    -----
    Windows must be as wide as the model takes them, so those of scikit-learn's estimator checks that bring data of their
    own width do not apply.
    """

    def __init__(self, model="model", *, C=1.0, threads=0):
        self.model = model
        self.C = C
        self.threads = threads

    def _features(self, X):
        return self.model_.embed(np.ascontiguousarray(X, dtype=np.float32))

    def fit(self, X, y, groups=None):
        """Fit on windows X [n, window] with labels y [n]; `groups` [n] says whose each window is."""
        self.model_ = self.model if isinstance(self.model, Model) else Model.load(self.model, threads=self.threads)
        X, y = validate_data(self, X, y, dtype=np.float32)
        self.classes_ = unique_labels(y)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=self.C, max_iter=1000))
        features = self._features(X)
        n_groups = 0 if groups is None else len(set(groups))
        if n_groups > 1:
            grid = {"logisticregression__C": [self.C * factor for factor in (0.01, 0.1, 1.0, 10.0)]}
            search = GridSearchCV(probe, grid, cv=GroupKFold(min(5, n_groups)), scoring="neg_log_loss")
            self.probe_ = search.fit(features, y, groups=groups).best_estimator_
        else:
            self.probe_ = probe.fit(features, y)
        return self

    def predict_proba(self, X):
        """Probability of each class, [n, classes], in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return self.probe_.predict_proba(self._features(X))

    def predict(self, X):
        """The likelier class of each window."""
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]
