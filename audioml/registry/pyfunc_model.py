"""The MLflow model of a package: a table of audio files in, a table of predictions out.

MLflow runs this file by itself when it loads a package, with the package's own copy of audioml on the path. It must
import what inference needs, and no more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from audioml.errors import DecodeError
from audioml.inference.predictor import Predictor

INPUT_COLUMN = "audio"


class AudioModel(PythonModel):  # type: ignore[misc]
    """Predicts on the bytes of whole audio files, of any format that libsndfile reads."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network and its description."""
        self.predictor = Predictor.load(Path(context.artifacts["model.onnx"]).parent)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one row a clip; the columns are the task's, such as label, probability and probabilities.

        Raises
        ------
        MlflowException
            When a clip is no audio, saying which, counted from 0; the server answers with status 400.
        """
        try:
            predictions = self.predictor.predict([bytes(clip) for clip in model_input[INPUT_COLUMN]])
        except DecodeError as error:
            message = f"Column {INPUT_COLUMN!r} cannot be read as audio: {error}"
            raise MlflowException(message, error_code=INVALID_PARAMETER_VALUE) from None
        return pd.DataFrame(predictions, index=model_input.index)


set_model(AudioModel())
