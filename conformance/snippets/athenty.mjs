import crypto from 'crypto'
const sig = req.headers['x-athenty-signature']
const expected = crypto
.createHmac('sha256', SECRET)
.update(req.rawBody)
.digest('hex')
if (sig !== expected) throw new Error('invalid signature')
