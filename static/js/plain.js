// Pages without the frame: sign-in and errors in words.
import "./forms.js";
import "./drafts.js";
import "./times.js";
