"use strict";
// `validatorUrl`: left alone, Swagger UI shows a badge that another host makes of this service's address.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
