// AsyncAPI's own parser judges the documents on standard input, a JSON array. For version 3 it looks
// neither at Avro payloads nor at examples, so its Avro plug-in is asked about each payload, and
// each example is held against the JSON Schema that the parser made of it.
// Writes for each what it found, as JSON: problems, and what the document has.
// Usage: node judge.mjs < documents.json
import { readFileSync } from 'node:fs';
import avro from '@asyncapi/avro-schema-parser';
import asyncapi from '@asyncapi/parser';
import Ajv from 'ajv';

const AVRO = /^application\/vnd\.apache\.avro/;
const ofAvro = avro.AvroSchemaParser();
const parser = new asyncapi.Parser({ schemaParsers: [ofAvro] });
const ids = (all) => all.all().map((one) => one.id());

async function avroProblems(schemas) {
  const problems = [];
  for (const [name, schema] of Object.entries(schemas ?? {})) {
    if (AVRO.test(schema.schemaFormat)) {
      const path = ['components', 'schemas', name];
      for (const wrong of await ofAvro.validate({ data: schema.schema, path })) {
        problems.push(`avro at ${path.join('/')}: ${wrong.message}`);
      }
    }
  }
  return problems;
}

function exampleProblems(document) {
  const ajv = new Ajv({ strict: false, validateFormats: false });
  const problems = [];
  const demand = (place, schema, value) => {
    const whole = schema?.json();
    if (whole && value !== undefined && !ajv.validate(whole.schema ?? whole, value)) {
      problems.push(`example of ${place}: ${ajv.errorsText()}`);
    }
  };
  for (const message of document.components().messages().all()) {
    for (const example of message.examples().all()) {
      demand(`${message.id()}/payload`, message.payload(), example.payload());
      demand(`${message.id()}/headers`, message.headers(), example.headers());
    }
  }
  return problems;
}

async function judged(source) {
  const { document, diagnostics } = await parser.parse(JSON.stringify(source));
  const said = diagnostics.map((one) => `${one.code} at ${one.path.join('/')}: ${one.message}`);
  const problems = [...said, ...(await avroProblems(source.components?.schemas))];
  if (!document) return { problems, found: null };
  const found = {
    servers: ids(document.servers()),
    channels: ids(document.channels()),
    operations: ids(document.operations()),
    messages: ids(document.components().messages()),
  };
  return { problems: [...problems, ...exampleProblems(document)], found };
}

const verdicts = [];
for (const source of JSON.parse(readFileSync(0, 'utf8'))) {
  verdicts.push(await judged(source));
}
process.stdout.write(JSON.stringify(verdicts));
