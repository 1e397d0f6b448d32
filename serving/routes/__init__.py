"""All routes, one file for each noun. A new file is one line here."""

from serving.routes.audiences import router as audiences
from serving.routes.campaigns import router as campaigns
from serving.routes.console import router as console
from serving.routes.console_audiences import router as console_audiences
from serving.routes.events import router as events
from serving.routes.health import router as health
from serving.routes.inference import router as inference
from serving.routes.jobs import router as jobs
from serving.routes.journeys import router as journeys
from serving.routes.lookalikes import router as lookalikes
from serving.routes.models import router as models
from serving.routes.preflight import router as preflight
from serving.routes.privacy import router as privacy
from serving.routes.quality import router as quality
from serving.routes.salesforce import router as salesforce
from serving.routes.scores import router as scores
from serving.routes.users import router as users

ROUTERS = (
    *(events, scores, users, audiences, campaigns, lookalikes, jobs, salesforce, journeys, models, preflight, quality, privacy, inference, health),
    *(console, console_audiences),
)
