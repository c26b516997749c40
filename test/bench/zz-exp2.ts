import { CASES, OurSide, SOURCES, WIDTH, HEIGHT, copiesOf } from './copy.ts';
import { GuestPicture } from '../unit/buffer/fakes.ts';
import { randomFillSync } from 'node:crypto';
const pictures = Array.from({ length: SOURCES }, () => new GuestPicture(WIDTH, HEIGHT));
for (const { pixels } of pictures) randomFillSync(pixels.bytes);
const cases=[{name:'16 of 1x1',steps:CASES[3]!.steps.map(s=>s.map(r=>({...r,width:1,height:1})))},{name:'16 of 96x2',steps:CASES[3]!.steps.map(s=>s.map(r=>({...r,height:2})))},{name:'16 of 1x48',steps:CASES[3]!.steps.map(s=>s.map(r=>({...r,width:1})))},{name:'1x1',steps:[[{x:0,y:0,width:1,height:1}]]},{name:'4x1',steps:[[{x:0,y:0,width:4,height:1}]]},{name:'4x4',steps:[[{x:0,y:0,width:4,height:4}]]},{name:'64x64 still',steps:[[{x:640,y:640,width:64,height:64}]]},...CASES.slice(2),
{name:'moving 1x1',steps:CASES[2]!.steps.map(s=>[{...s[0]!,width:1,height:1}])}, {name:'moving 64x1',steps:CASES[2]!.steps.map(s=>[{...s[0]!,width:64,height:1}])}];
for(const c of cases){const side=new OurSide(pictures,c.steps); const n=200000; const ts=[];for(let i=0;i<5;i++){const t=performance.now();side.run(n);ts.push((performance.now()-t)/n*1e6)} console.log(c.name,'ns/flush',ts.map(x=>x.toFixed(0)).join(' '));}
