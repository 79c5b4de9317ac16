"""General words of clinical English: how a history, an examination, tests, a course and its images are told.

Written down from general knowledge of the language, never from patients' notes: a rare word in the shipped
vocabulary could tell whose notes it was made from.
"""

from __future__ import annotations

FUNCTION_WORDS = """
according accordingly actually additional additionally afternoon ago almost alone along already always am amongst
annual another anything apart appropriate april aside august besides best bottom briefly came certain certainly
clearly close closely come comes coming common commonest commonly consequently considerable considerably considering
daily december different difficult difficulty directly doing easily effectively eight eighty eleven entire entirely
equal equally especially essentially evening exactly example extremely fairly far february fifty finally five former
forty four frequent frequently friday fully furthermore gave general generally get gets getting give gives giving go
goes going gone got gradual gradually great greater half having hence high higher highly hour hours hundred immediate
immediately important indeed initial initially instead january july june keep kept knew know later latter let mainly
make makes making many march maximum mean meanwhile minimum minute minutes monday monthly moreover morning mostly
namely nearly necessary nevertheless night nights nine ninety nonetheless nothing november october often onset
opposite order others outside overnight particular particularly perhaps point possibility potential potentially
predominant primarily primary probability progressively proper properly put quite ran rapid rapidly rare rarely ready
really relative relatively repeated repeatedly respective respectively roughly run said satisfactory saturday say says
see seeing seem seemed seems seldom sent separate september set seven seventy shall simply simultaneous six sixty slow
slowly sometimes somewhat soon specific specifically start started starting starts stop stopped stops strongly
subsequent subsequently successful successfully sudden suddenly sufficient sunday supposed surely take taken takes
taking tell ten think thirty thought thrice thursday thus told took top total totally tried true try tuesday turned
twelve twenty twice typical typically unable unclear unknown unlikely unusual unusually usual usually various vary
varying want wanted wednesday weekly went whereas whole whom whose why widely work worked works yes zero
"""
HISTORY = """
abroad accident aches aching admits adult adults aetiology age agitation alcohol alert allergic allergies allergy
anaemia anemia anorexia anxiety anxious appetite arrival arrived arthralgia arthritis asthma asthmatic asymptomatic
attack attacks attended autoimmune baby back bedridden bleed bleeding blurred born breathe breathing breathless
breathlessness brother brought burning called carcinoma care case cases cause caused causes causing chemotherapy child
childhood children chills cigarette cigarettes circumstances clinic clinically cold colleague coma comorbidities
comorbidity complained complaining complains complaint complaints complicated complication complications concerned
confused confusion consciousness consulted contact contacts coughing cyanosis cyanotic dating daughter dead death
deceased dehydrated dehydration denied denies depression developed developing develops diabetic diagnosed diagnoses
diagnosis diagnostic diarrhea diarrhoea die died diet dizziness dizzy drinker drowsy drug drugs dry dyslipidaemia
dyslipidemia dysphagia dysuria elderly epigastric epilepsy episode episodes etiology exertion exertional exhausted
experience experienced experiencing exposed exposure facial factor factors faintness family father fatigue fatigued
febrile feel feeling feels fell felt feverish fit flu friend gastrointestinal generalised generalized gentleman girl
habits haemoptysis haemorrhage headache headaches health healthy heavy hemoptysis hemorrhage heredity hoarseness home
homeless hospitalised hospitalization hospitalized household husband hypercholesterolemia hyperlipidaemia
hyperlipidemia hypertensive hypotension hypotensive hypothyroidism ill illness immunocompetent immunocompromised
immunodeficiency immunosuppressed immunosuppression immunosuppressive incontinence independent infant infected
infections influenza inhalation inhaled insomnia insulin intermittent ischaemic ischemic itching job joint kids known
lady lethargic lethargy life lifestyle lived living lost malaise married medical medication medications medicine men
metabolic migraine mobile mother mucus muscle muscles myalgia myalgias myocardial nasal nausea nauseous neonate
neurological newborn noticed nurse nursing obesity obvious occasional occasionally occupation occupational operated
operation orthopnea orthopnoea outpatient overweight pack packs paediatric painful pains palpitations paracetamol
parents past pediatric people persisted persistently persisting person phlegm physician pneumonitis poison pregnancy
pregnant premature presentation presentations presented presenting presents preterm productive progressed progression
progressive prolonged purulent quit rash recovered recovery recurrence recurrent referral referred relatives relevant
reported reporting reports residence resident retired returned rheumatic rheumatoid rhinorrhea rhinorrhoea risk runny
school seizure seizures self senior severity short sick sickness silent sister sleep smell smoke smoked smokers
sneezing social son sore spontaneous sputum staff student suffer suffered suffering suffers sweating sweats symptom
symptomatic taste teenager throat tired tiredness tobacco tolerated traumatic travel traveled traveling travelled
travelling trip unconscious unwell urinary urine vaccinated vaccination vaccine vertigo vomit vomited vomiting walk
walking weak wheezing wheezy wife women worker workers worry young younger youth
"""
EXAMINATION = """
accessory afebrile alertness ambulatory arrhythmia auscultation auscultatory beating beats bedside bpm bradycardia
bruising bruits capillary cardiovascular celsius chilly circulation clubbing coloured comatose conscious cooperative
crackle crackles crepitation crepitations cyanosed decreasing deep depressed deviated diastolic diminished distress
distressed dullness eye eyes face fahrenheit finger fingers fluctuating foot gallop glasgow haemodynamic
haemodynamically hand hands head hemodynamic hemodynamically hyperthermia hypothermia inspection irregular isolated
jaundice labored laboured limb limbs listening lucid moist mouth movement movements mucosa murmur murmurs nails nerve
nose objective observation observations observe observed oedematous oral orientated oriented pale pallor palpable
palpation pedal percussion peripheries physical physically pitting pulse pulses pupils rale rales rate rates reading
reflex reflexes regular resonance resonant respiration respirations response responsive rhonchi rhythm room rub
saturations scale score scores sinus sound sounds speech spo stethoscope stridor systolic tachycardia tachycardic
tachypnea tachypneic tachypnoea tachypnoeic temperature temperatures tender tenderness tongue tonsils unresponsive
unstable vital vitals voice warm
"""
TESTS = """
abg acid acidosis alanine albumin alkaline alkalosis aminotransferase amylase anaerobic analyses analysis analyzed
angiogram angiography antibodies antibody antigen arterial aspartate aspergillus aspirate aspirates assay aureus
bacilli bacteria bacterial baseline basophils bicarbonate bilirubin biochemical biochemistry biopsies biopsy bnp
bronchoalveolar bronchoscopic bronchoscopy candida carbon cell cells chemistry chloride cholesterol coagulation colony
concentration concentrations count counts creatine creatinine crp culture cultured cultures cytological cytology
detect detectable detected detection differential dilution dioxide dna doppler ecg echo echocardiogram
echocardiographic echocardiography eeg ekg electrocardiogram electrolyte electrolytes electron elisa endoscopic
endoscopy enzyme enzymes eosinophil eosinophilia eosinophils erythrocyte erythrocytes esr ferritin fibrinogen
fluorescence fungal fungus gene genetic glucose gram haematocrit haematological haematology haemoglobin haemophilus
hematocrit hematological hematology hemoglobin hepatitis histologic histological histology histopathological
histopathology hiv hormone igg igm immunofluorescence immunohistochemistry index influenzae inr investigated
investigation investigations kinase klebsiella lab laboratory labs lactate lactic lavage legionella leucocyte
leucocytes leucocytosis leukocyte leukocytes leukocytosis leukopenia levels lipase lumbar lymphocyte lymphocytes
lymphocytopenia lymphocytosis lymphopenia magnetic marker markers measured measurement measurements measuring
metabolism microbiological microbiology microscopic microscopy molecular monitor monitored monitoring monocytes mri
mycobacterium mycoplasma nasopharyngeal neutropenia neutrophil neutrophilia neutrophilic neutrophils normalised
normalized nucleic number numbers obtained oropharyngeal oximetry oxygenation panel parameters pathogen pathogens
pathological pathology percent percentage performed pet ph phosphatase plasma platelet platelets pneumocystis
pneumoniae polymerase potassium procalcitonin profile protein proteins proteinuria prothrombin pseudomonas puncture
quantitative raised range ratio reaction reactive reagent real red reference result resulted results reverse rna rt
sample samples sampling scan scanned scanner scanning scans screen screened screening sediment sedimentation
sequencing serial serologic serological serology serum sodium specimen specimens spectrum spirometry stain stained
staining staphylococcus sterile stool strain streptococcus swab swabs tested testing tests threshold thrombocytopenia
thyroid titer titre tomogram tomographic tomography toxicology transcriptase transesophageal transferase transthoracic
troponin urea uric urinalysis value values virus viruses wbc white yield
"""
COURSE = """
abscess absorbed accepted accompanied accompanying achieved acquired acquisition action addition adenopathy adjusted
administered administration advice advised affect affected affecting affects aggravated aggressive alive alternative
ambulance amoxicillin anaesthesia analgesia analgesic anesthesia antibiotic antibiotics anticoagulant anticoagulation
antifungal antihypertensive antimicrobial antipyretic antiretroviral antituberculous antiviral antivirals applied
approach ards arranged arrest aspirin assisted associated association attempt attempted attributed augmentin available
avoid azithromycin beta blocker breakdown bronchodilator bronchodilators cannulation cardiogenic cardiologist
cardiology cardioversion catheterisation catheterization ceased cefotaxime ceftriaxone cephalosporin ciprofloxacin
clarithromycin clavulanate clearance clindamycin combination combined commenced compatible completed compliance
conducted confirm confirmed confirming confirms conservative conservatively considered consultation continued
continuing continuous continuously control controlled corticosteroid corticosteroids cortisone critical critically
cure cured decided decision decompensated decompensation define defined definite definitely definitive delay delayed
department dependent deteriorate deteriorated deteriorating deterioration determined dexamethasone dialysis digoxin
discharged discontinued discussed diuretic diuretics dose doses doxycycline drainage dying early ecmo effect effective
effects efficacy elective emboli embolisation embolism embolus empiric empirical empirically enoxaparin ensued
escalated established evacuated event events eventually evolution evolved evolving excellent excision expired
explained extracorporeal extubated extubation fatal favorable favourable flow fluoroquinolone foley followed following
follows forced frusemide furosemide future guided guidelines heparin hospice hospitals hydrocortisone ibuprofen
identified improve improves induced ineffective infused infusion inhaler inhalers initiated initiation injected
injection inotropic inserted insertion instituted institution insufficiency insufficient intensive intensivist
interferon intervention interventional interventions intramuscular intravenous intravenously introduced invasive
isolate isolation itu led levofloxacin linezolid local logged lying maintained maintenance manage managed management
mask mechanical mechanically meropenem methotrexate methylprednisolone metronidazole minimise mortality moxifloxacin
mycophenolate nebulised nebulized nebulizer necrosis needed needs negativity neonatal noninvasive noradrenaline
norepinephrine occurred occurring occurs offered operative orally oseltamivir outcome outcomes oxygenated palliative
passed patients penicillin period permanent pharmacological phase physiotherapy piece piperacillin placed placement
plan planned polymyxin positivity prednisolone prednisone prescribed preserved prevent prevention procedure procedures
prognosis progress prompt promptly prone pronounced prophylactic prophylaxis protective protocol provided
pulmonologist radiotherapy ranging readmission readmitted receive received receiving recover recovering recurred
reduce reduces reducing reduction refer refractory refused regimen regression rehabilitation rejection relapse
relapsed released relief relieved remained remaining remission repair repeat replaced replacement required requirement
requirements requires requiring rescue resistance resistant resolve resolves responded responding rest restored
restricted resumed resuscitation revealed revealing reveals reversed ribavirin routine routinely safe salbutamol
secondary sedated sedation sequelae shock specialised specialist spread spreading stabilised stabilized stage staged
status stay stayed steroid steroids strategy substantial succumbed supplemental supplementary supplementation
supportive suppressed surgeon surgeons surgically survival survive survived survivor suspect suspected sustained
switched synchronous systemic systemically tablet tablets tapered tapering tazobactam temporary term terminal theatre
therapeutic therapies therapy thrombolysis thrombosis thrombus titrated tolerating toxic toxicity transfer transferred
transfused transfusion transient transiently transplantation transplanted transported treat treating treatments trial
triple tumoral tumours type undergo undergoing undergone underlying underwent uneventful unfortunately unit units
vancomycin vasopressor vasopressors venovenous ventilated ventilator ventilatory vitamin warfarin weaned weaning
withdrawal withdrawn worsen worsens
"""
IMAGING = """
abutting adenocarcinoma angle angles anteriorly anterolateral apparent arch arising ascending asymmetrically
attenuation axial axillary azygo band bands basally based bilobar blurring branch branches branching bronchiolar
bronchioles bronchiolitis bronchopneumonia bronchovascular bud bulging calcifying caudal cavitating cavities cephalic
characteristic characteristics chronicity circumferential circumscribed coalescence coalescent coalescing collateral
collection collections comparable compress compressed compression concomitant confined confluence congenital
contiguous convex coronal correlates costal crazy criteria cross crosses curvilinear cutaneous cysts decompression
defect defects demonstrate demonstrating depicted depicts descending descends describe described destroyed destruction
diameter difference differences differentiate dimension dimensional dimensions discrete dissection disseminated
distinct distorted distortion distributed distributions dominance dominant dorsal dots duct ductal ductus eccentric
echogenic embolic embolised enhance enhanced enhancement enhances enhancing enlarging erosion erosions evenly expanded
expansion external extra extrapleural exudate exudative feature features fibrosing figure filling fistula floor fluids
focally focus foreign form formation formed forming forms fossa funnel fusion gaseous giant gland glands grade graded
gravity grossly group halo haziness hazy hepatomegaly hepatosplenomegaly herniation heterogeneous heterogeneously
hilus honeycomb honeycombing horizontal hyperdense hyperlucent hypodense hypoplasia hypoplastic identical illustrate
illustrates imaged incomplete incompletely indicate indicated indicates indicative indicator infarct infarction
inferiorly infiltrated infiltrating infiltrative infraclavicular inhomogeneous inner innumerable interlobar
interlobular internal interpretation intralobular intraparenchymal intrapulmonary intrathoracic inverted involve
involved involvement involves involving irregularity irregularly lamellar leftward localised localized located
location locations loculated lucencies lumen lymphangitic lymphangitis lymphatic lymphoma macroscopic mainstem
manifestation manifestations manubrium margin margins massive mediastinitis metal metallic microcalcification miliary
mimic mimicking mixed morphology mosaic mottled mucoid mucous multilobar multilobular multinodular multiplanar myeloma
narrowed narrowing nodularity nonspecific numerous oblique obliterated obliteration obscure occluded occlusion occupy
occupying onwards organising organizing originating outer outline outlined outlines overinflated overinflation overlap
overlapping overlies overlying overt pachypleuritis pancreas paracardiac paraseptal paratracheal paravertebral pattern
patterns paving pectoral pedunculated penetration perfusion peribronchovascular perilymphatic perivascular picture
plaque plaques pleurisy pleuritic pneumatocele pneumatoceles pneumomediastinum pockets polygonal predominance
predominate presence protrusion proximal pseudotumor punctate quadrant quality questionable radiodense radiogram
radiograms radiographically radiologic radiological radiologically radiologist radiologists radiolucent radiopacity
rays reconstruction rectus reformatted regional remnant restrictive retained retracted retraction retrosternal
rightward rim ring round rounded sacral sagittal sarcoidosis sarcoma scapula scapular section sections sequence
sequestration series shape shaped shapes showed showing shown silicosis site sites situs slice slices sliding smooth
solid solitary spared sparing spherical spiculated split spot spots stenosis straight streaky striking structural
structure structures subacute subphrenic substernal suggestion suggestive summary superficial superiorly
supraclavicular supradiaphragmatic surface surrounded surrounding systematic tail tethered thickenings thickness
thrombosed thymoma thymus traction transmitted transparency transverse tree trunk tuberculous tubular ulcer uniform
uniformly unilaterally variable variant variation vasculitis ventral vertical viscera visceral visibility
visualization volumetric wide widespread windows
"""

CLINICAL_WORDS = " ".join((FUNCTION_WORDS, HISTORY, EXAMINATION, TESTS, COURSE, IMAGING))
