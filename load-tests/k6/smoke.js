// A smoke test of one service: sessions that initialise, list and call `echo`, each answer checked.
//
//   k6 run -e URL=http://127.0.0.1:8080/mcp/demo [-e TOKEN=…] [-e VUS=10] [-e SECONDS=10] load-tests/k6/smoke.js
import http from 'k6/http';
import { check, fail } from 'k6';
import exec from 'k6/execution';

const url = __ENV.URL || 'http://127.0.0.1:8080/mcp/demo';
const base = {
    'Content-Type': 'application/json',
    Accept: 'application/json, text/event-stream',
    ...(__ENV.TOKEN ? { Authorization: `Bearer ${__ENV.TOKEN}` } : {})
};

export const options = {
    vus: Number(__ENV.VUS || 10),
    duration: `${Number(__ENV.SECONDS || 10)}s`,
    // k6 exits with 99 if one of these does not hold
    thresholds: { checks: ['rate==1'], http_req_failed: ['rate==0'], http_reqs: ['count>20'] }
};

let headers = null; // of this virtual user's session; every user has its own copy of this script
let id = 0;

function post(body) {
    return http.post(url, JSON.stringify({ jsonrpc: '2.0', ...body }), { headers: headers || base });
}

// The answer may be JSON or the last event of a stream.
function message(response) {
    const data = response.body.split('\n').filter(line => line.startsWith('data:'));
    const last = data.length > 0 ? data[data.length - 1].slice(5) : response.body;
    return JSON.parse(last);
}

function open() {
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'k6', version: '1' } };
    const hello = post({ id: ++id, method: 'initialize', params });
    if (!check(hello, { 'initialize is 200': r => r.status === 200 && !!r.headers['Mcp-Session-Id'] })) {
        fail(`initialize: ${hello.status} ${hello.body}`);
    }
    headers = { ...base, 'Mcp-Session-Id': hello.headers['Mcp-Session-Id'], 'MCP-Protocol-Version': '2025-11-25' };
    check(post({ method: 'notifications/initialized' }), { 'a notification is 202': r => r.status === 202 });
    check(post({ id: ++id, method: 'tools/list', params: {} }), {
        'echo is listed': r => message(r).result.tools.some(tool => tool.name === 'echo')
    });
}

export default function () {
    if (headers === null) open();
    const text = `user ${exec.vu.idInTest} call ${++id}`;
    const answer = post({ id, method: 'tools/call', params: { name: 'echo', arguments: { text } } });
    check(answer, {
        'the answer is mine': r => r.status === 200 && message(r).id === id && message(r).result.content[0].text === text
    });
}
