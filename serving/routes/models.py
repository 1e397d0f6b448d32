from __future__ import annotations

from fastapi import APIRouter

from serving.border.problems import RESPONSES
from serving.routes.parts import ScorerPart
from serving.schemas import ModelBody, ModelsBody

router = APIRouter(prefix="/v1/models", tags=["models"], responses=RESPONSES)


@router.get("", summary="The models in service")
async def get_models(scorer: ScorerPart) -> ModelsBody:
    """Every prediction in service: what it asks of whom, how good it is beside its baselines, what the gate said."""
    models = []
    for task, facts in scorer.tasks.items():
        about = scorer.release.bundles[task].about
        models.append(
            ModelBody(
                task=task,
                question=about["question"],
                eligible=about["eligible"],
                horizon_days=about["horizon_days"],
                calibrated=about["calibrated"],
                kind=facts["kind"],
                version=facts["version"],
                run_id=facts["run_id"],
                trained_through=about["last_cutoff"],
                rows=about["rows"],
                positives=about["positives"],
                eligible_users=facts["eligible"],
                features={name: about["features"][name]["meaning"] for name in scorer.release.bundles[task].features},
                decision=facts["decision"],
                metrics=facts["metrics"],
            )
        )
    return ModelsBody(release=scorer.release.id, as_of=scorer.release.manifest["as_of"], models=models)
