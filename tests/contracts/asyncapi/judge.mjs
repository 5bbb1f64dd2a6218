// AsyncAPI's own parser judges the document on standard input. For version 3 it looks neither at
// Avro payloads nor at examples, so its Avro plug-in is asked about each payload, and each example
// is held against the JSON Schema that the parser made of it.
// Writes what it found, as JSON: problems, and what the document has.
// Usage: node judge.mjs < asyncapi.json
import { readFileSync } from 'node:fs';
import avro from '@asyncapi/avro-schema-parser';
import asyncapi from '@asyncapi/parser';
import Ajv from 'ajv';

const AVRO = /^application\/vnd\.apache\.avro/;
const text = readFileSync(0, 'utf8');
const ofAvro = avro.AvroSchemaParser();
const parser = new asyncapi.Parser({ schemaParsers: [ofAvro] });
const { document, diagnostics } = await parser.parse(text);
const problems = diagnostics.map((one) => `${one.code} at ${one.path.join('/')}: ${one.message}`);

for (const [name, schema] of Object.entries(JSON.parse(text).components?.schemas ?? {})) {
  if (AVRO.test(schema.schemaFormat)) {
    const path = ['components', 'schemas', name];
    for (const wrong of await ofAvro.validate({ data: schema.schema, path })) {
      problems.push(`avro at ${path.join('/')}: ${wrong.message}`);
    }
  }
}

const ajv = new Ajv({ strict: false, validateFormats: false });
const fits = (place, schema, value) => {
  const whole = schema?.json();
  if (whole && value !== undefined && !ajv.validate(whole.schema ?? whole, value)) {
    problems.push(`example of ${place}: ${ajv.errorsText()}`);
  }
};
const messages = document?.components().messages().all() ?? [];
for (const message of messages) {
  for (const example of message.examples().all()) {
    fits(`${message.id()}/payload`, message.payload(), example.payload());
    fits(`${message.id()}/headers`, message.headers(), example.headers());
  }
}

const ids = (all) => all.all().map((one) => one.id());
const found = document && {
  servers: ids(document.servers()),
  channels: ids(document.channels()),
  operations: ids(document.operations()),
  messages: ids(document.components().messages()),
};
process.stdout.write(JSON.stringify({ problems, found: found ?? null }));
