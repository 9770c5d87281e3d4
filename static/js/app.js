// The console's behaviour. Every page works without it; it adds live updates, keys and comfort.
import "./parts.js";
import "./live.js";
import "./times.js";
import "./zones.js";
import "./reading.js";
import "./forms.js";
import "./drafts.js";
import "./schema_form.js";
import "./lists.js";
import "./palette.js";
import "./keys.js";
import "./typing.js";
import "./frame.js";
