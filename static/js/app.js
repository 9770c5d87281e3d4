// The console's behaviour. Every page works without it; it adds live updates, keys and comfort.
import "./parts.js";
import "./live.js";
import "./times.js";
import "./zones.js";
import "./reading.js";
import "./forms.js";
import "./schema_form.js";
import "./lists.js";
import "./drafts.js"; // after what draws rows and counts boxes: it fills them in, and says so
import "./palette.js";
import "./keys.js";
import "./typing.js";
import "./frame.js";
